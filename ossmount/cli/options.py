"""Options of :mod:`ossmount.config` as flags, as ``-o`` words and as TOML: text in, Settings out.

What may live here: how an option looks on a command line. Who may touch it: whoever changes that look;
a new option is a new field in :mod:`ossmount.config` and needs nothing here.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ossmount.config import (
    ALL_OPTIONS,
    SECTIONS,
    Option,
    Settings,
    compose,
    from_environment,
    from_table,
    options_of,
    parse_bool,
    parse_duration,
    parse_mode,
    parse_size,
    parse_value,
)
from ossmount.errors import SettingsError

SECTION_TITLES = {
    "store": "reaching the store",
    "source": "what is mounted",
    "index": "the tree and its index",
    "view": "views",
    "cache": "the cache",
    "readahead": "reading ahead",
    "mount": "the mount",
    "observability": "watching the mount",
}

_FOREIGN_WORDS = """
    ro defaults auto noauto user nouser users owner group nofail _netdev _rnetdev silent loud
    exec noexec dev nodev suid nosuid async sync dirsync mand nomand iversion noiversion
    atime noatime relatime norelatime strictatime nostrictatime lazytime nolazytime diratime nodiratime
"""

FOREIGN_MOUNT_OPTIONS = frozenset(_FOREIGN_WORDS.split())
"""Words that mount(8), fstab(5) and systemd.mount(5) put into ``-o`` and that ask nothing of a read-only
file system; mount(8) itself handles those that matter to the kernel."""

_FOREIGN_PREFIXES = ("x-", "X-", "comment=", "user=", "uhelper=", "helper=")


class Given(NamedTuple):
    """An option that the command line gives: its name, its text, and where it stood."""

    name: str
    text: str
    origin: str


class MountWord(NamedTuple):
    """A word of ``-o`` that is no option of the settings but of the command (``config=FILE``)."""

    name: str
    text: str


def flag_of(name: str) -> str:
    """The flag of an option: ``cache_size`` → ``--cache-size``."""
    return "--" + name.replace("_", "-")


def negative_flag_of(name: str) -> str:
    """The flag that turns a yes-or-no option off: ``push`` → ``--no-push``, ``no_x`` → ``--x``."""
    return flag_of(name[3:] if name.startswith("no_") else f"no_{name}")


def is_switch(opt: Option) -> bool:
    """True for a yes-or-no option, whose flag takes no value."""
    return opt.parse is parse_bool


def default_of(name: str) -> Any:
    """The default of an option."""
    for section in SECTIONS.values():
        for field in dataclasses.fields(section):
            if field.name == name:
                return field.default
    raise KeyError(name)


def format_value(opt: Option, value: Any) -> str:
    """The text that ``opt.parse`` turns into ``value``, as short as it can be; "" for None."""
    if value is None:
        return ""
    if opt.parse is parse_size:
        return _in_units(value, (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)), "")
    if opt.parse is parse_duration:
        return _format_duration(value)
    if opt.parse is parse_mode:
        return f"{value:04o}"
    if opt.parse is parse_bool:
        return "true" if value else "false"
    return str(value)


def _in_units(value: int, units: Iterable[tuple[str, int]], base: str) -> str:
    for unit, scale in units:
        if value and value % scale == 0:
            return f"{value // scale}{unit}"
    return f"{value}{base}"


def _format_duration(seconds: float) -> str:
    if seconds != int(seconds):
        return f"{seconds}s"
    return _in_units(int(seconds), (("d", 86400), ("h", 3600), ("m", 60)), "s")


class _Give(argparse.Action):
    """Appends to ``namespace.given``; the order on the command line decides, so flags and -o share it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        text = self.const if self.nargs == 0 else values
        given = [*(getattr(namespace, "given", None) or []), Given(self.dest, text, option_string or "")]
        namespace.given = given


class _GiveMountOptions(argparse.Action):
    """Takes apart ``-o a,b=c`` where it stands, so that what comes later wins."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given = [*(getattr(namespace, "given", None) or [])]
        for word in parse_mount_options(values, sloppy=getattr(namespace, "sloppy", False)):
            if isinstance(word, Given):
                given.append(word)
            else:
                setattr(namespace, word.name, word.text)
        namespace.given = given


def add_options(parser: argparse.ArgumentParser, sections: Iterable[str], omit: Sequence[str] = ()) -> None:
    """Adds the flags of ``sections``, each as a group with a title."""
    for section in sections:
        group = parser.add_argument_group(SECTION_TITLES[section])
        for name, opt in options_of(SECTIONS[section]).items():
            if name not in omit:
                add_option(group, name, opt)


def add_option(group: argparse._ArgumentGroup, name: str, opt: Option) -> None:
    """Adds one option's flags; values stay text here and are parsed when settings are composed."""
    if is_switch(opt):
        text = describe(name, opt)
        group.add_argument(flag_of(name), dest=name, action=_Give, nargs=0, const="true", help=text)
        hidden = None if default_of(name) else argparse.SUPPRESS
        negative = f"turn {flag_of(name)} off" if hidden is None else hidden
        group.add_argument(
            negative_flag_of(name), dest=name, action=_Give, nargs=0, const="false", help=negative
        )
        return
    metavar = "{" + ",".join(opt.choices) + "}" if opt.choices else opt.metavar or "TEXT"
    group.add_argument(flag_of(name), dest=name, action=_Give, metavar=metavar, help=describe(name, opt))


def describe(name: str, opt: Option) -> str:
    """The option's help with its default."""
    default = default_of(name)
    if default is None or (is_switch(opt) and not default):
        return opt.help.replace("%", "%%")
    return f"{opt.help} (default: {format_value(opt, default)})".replace("%", "%%")


def add_mount_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``-o`` as mount(8) and fstab(5) use it."""
    parser.add_argument(
        "-o",
        dest="mount_options",
        action=_GiveMountOptions,
        metavar="OPTIONS",
        help="options as mount(8) and fstab(5) give them: every long option by its name, separated by commas"
        " (a comma within a value is written '\\,'); ro, _netdev, nofail, x-… and their like are accepted",
    )


def split_mount_options(text: str) -> list[str]:
    r"""The words of ``-o``; a comma or backslash within a word is written ``\,`` or ``\\``."""
    parts = re.findall(r"((?:[^\\,]|\\.)+)", text)
    return [re.sub(r"\\(.)", r"\1", part) for part in parts]


def parse_mount_options(text: str, sloppy: bool = False) -> list[Given | MountWord]:
    """What the words of ``-o`` give. Raises SettingsError for a word that nobody knows."""
    words: list[Given | MountWord] = []
    for word in split_mount_options(text):
        if word in FOREIGN_MOUNT_OPTIONS or word.startswith(_FOREIGN_PREFIXES):
            continue
        parsed = _parse_mount_word(word)
        if parsed is not None:
            words.append(parsed)
        elif not sloppy:
            raise _unknown_word(word)
    return words


def _parse_mount_word(word: str) -> Given | MountWord | None:
    key, equals, value = word.partition("=")
    name, origin = key.replace("-", "_"), f"-o {key}"
    if name in ALL_OPTIONS:
        if not equals and not is_switch(ALL_OPTIONS[name]):
            raise SettingsError(f"{origin} needs a value", f"write {key}=VALUE")
        return (
            Given(name, value or "true", origin)
            if is_switch(ALL_OPTIONS[name])
            else Given(name, value, origin)
        )
    for known, opt in ALL_OPTIONS.items():
        if not equals and is_switch(opt) and negative_flag_of(known) == flag_of(name):
            return Given(known, "false", origin)
    return MountWord("config", value) if name == "config" and equals else None


def _unknown_word(word: str) -> SettingsError:
    key = word.partition("=")[0]
    if key == "rw":
        return SettingsError("-o rw: a mount never writes to a bucket", "mount with ro")
    near = difflib.get_close_matches(key.replace("-", "_"), ALL_OPTIONS, n=1)
    remedy = f"did you mean {near[0].replace('_', '-')!r}?" if near else "see 'ossmount mount --help'"
    return SettingsError(f"-o: unknown option {key!r}", remedy)


def read_toml(path: str) -> dict[str, Any]:
    """Values of a configuration file. Raises SettingsError."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}", "check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}", 'write it as TOML: cache-size = "50G"') from error
    return from_table(table, path)


def settings_of(given: Iterable[Given], config: str | None, environment: Mapping[str, str]) -> Settings:
    """Settings from all four layers: default < TOML < environment < command line. Raises SettingsError."""
    path = config or environment.get("OSSMOUNT_CONFIG")
    line = {name: parse_value(name, text, origin) for name, text, origin in given}
    return compose(read_toml(path) if path else {}, from_environment(environment), line)
