"""Writes the manual pages: ``python -m ossmount.cli.manual [DIRECTORY]`` (``man1/`` and ``man8/`` below it).

What may live here: parser and option table as mdoc(7). Who may touch it: whoever changes how the pages look;
``mandoc -T lint`` must be silent, which a test checks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from ossmount import __version__
from ossmount.cli.catalogue import COMMANDS
from ossmount.cli.command import Command, parser_of
from ossmount.cli.entry import EXIT_STATUSES
from ossmount.cli.options import SECTION_TITLES, default_of, flag_of, format_value, is_switch
from ossmount.config import SECTIONS, Option, options_of

DATE = "November 21, 2026"
"""Of the last change of these pages' own words; generated parts follow the version."""

_FILES = (
    ("/run/ossmount", "Runtime directories of root's mounts; of others $XDG_RUNTIME_DIR/ossmount."),
    ("~/.cache/ossmount", "Cached blocks and kept indexes, unless --cache-dir says otherwise."),
    ("~/.aws/credentials", "Credentials for s3://, as the AWS tools have them."),
)


WIDTH = 70
"""mandoc asks for input lines of at most 80 bytes; escapes lengthen a few."""


def text_of(text: str) -> str:
    """``text`` as lines in which no macro and no escape is seen; sentences begin lines (mdoc(7))."""
    sentences = " ".join(text.split()).replace(". ", ".\n").splitlines()
    lines = (line for sentence in sentences for line in wrap(sentence, WIDTH, break_long_words=False))
    return "\n".join(map(_line, lines))


def _line(line: str) -> str:
    escaped = line.replace("\\", "\\e").replace("`", "\\(ga").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _words(*words: str) -> str:
    """Arguments of a macro: quoted, so that none is taken for a macro of its own."""
    return " ".join('"' + _line(word).replace('"', '""') + '"' for word in words)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f".Sh {title}", *lines])


def _tagged(pairs: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> list[str]:
    """A list of (macro line behind .It, text)."""
    items = [line for tag, text in pairs for line in (f".It {tag}", text_of(text)) if line]
    return [".Bl -tag -width Ds", *items, ".El"] if items else []


def _head(name: str, section: int, summary: str) -> str:
    return "\n".join(
        [
            f'.\\" Written by python -m ossmount.cli.manual, ossmount {__version__}.',
            f".Dd {DATE}",
            f".Dt {name.upper()} {section}",
            ".Os",
            ".Sh NAME",
            f".Nm {name}",
            f".Nd {summary}",
        ]
    )


def ossmount_page() -> str:
    """ossmount(1)."""
    parts = [
        _head("ossmount", 1, "read-only mount of object storage for training"),
        _section("SYNOPSIS", [line for command in COMMANDS for line in _synopsis(command)]),
        _section("DESCRIPTION", _DESCRIPTION),
        _section("COMMANDS", [line for command in COMMANDS for line in _command(command)]),
        _section("OPTIONS", [_OPTIONS, *(line for section in SECTIONS for line in _options(section))]),
        _section("ENVIRONMENT", _tagged(_ENVIRONMENT)),
        _section("FILES", _tagged([(f"Pa {_words(path)}", text) for path, text in _FILES])),
        _section(
            "EXIT STATUS", _tagged([(_words(str(status)), _sentence(text)) for status, text in EXIT_STATUSES])
        ),
        _section("EXAMPLES", [line for command in COMMANDS for line in _examples(command)][1:]),
        _section("SEE ALSO", [".Xr fusermount3 1 ,", ".Xr mount.ossmount 8"]),
    ]
    return "\n".join(parts) + "\n"


_DESCRIPTION = [
    ".Nm",
    text_of(
        "presents a prefix of a bucket, a manifest or a list of objects in S3 or Alibaba Cloud OSS as a"
        " read-only directory. The listing is made once, into an index that is kept; what was read stays in"
        " the page cache of the kernel and in a cache on disk."
    ),
    ".Pp",
    "What is no command is a source:",
    ".Nm",
    ".Ar SOURCE MOUNTPOINT",
    ".Op Fl o Ar OPTIONS",
    "means",
    ".Nm",
    ".Cm mount .",
]

_OPTIONS = "Later wins: default, TOML file, environment, command line."

_ENVIRONMENT = [
    ("Ev OSSMOUNT_CONFIG", "A TOML file of options by their long names."),
    (
        'Ev "OSSMOUNT_..."',
        "Every option: its long name in capitals with underscores, OSSMOUNT_CACHE_SIZE for --cache-size.",
    ),
    ("Ev OSSMOUNT_RUNTIME_DIR", "Where mounts of this user are recorded."),
    ('Ev "AWS_..."', "Credentials for s3:// as the AWS tools read them."),
    ("Ev OSS_ACCESS_KEY_ID , OSS_ACCESS_KEY_SECRET , OSS_SESSION_TOKEN", "Credentials for oss://."),
    ("Ev NOTIFY_SOCKET , WATCHDOG_USEC", "Set by systemd for a mount with --foreground; see sd_notify(3)."),
]


def _synopsis(command: Command) -> Iterator[str]:
    yield ".Nm"
    yield f".Cm {_words(command.name)}"
    if command.sections:
        yield ".Op Ar OPTIONS"
    if command.usage:
        yield f".Ar {_words(command.usage)}"


def _command(command: Command) -> Iterator[str]:
    yield f".Ss ossmount {command.name}"
    yield text_of(f"{command.summary[0].upper()}{command.summary[1:]}.")
    if command.details:
        yield text_of(command.details)
    yield from _tagged(list(_own_arguments(command)))
    if command.sections:
        titles = ", ".join(SECTION_TITLES[section] for section in command.sections)
        yield ".Pp"
        yield text_of(f"Takes --config FILE and the options of: {titles}.")


def _own_arguments(command: Command) -> Iterator[tuple[str, str]]:
    for group in parser_of(command)._action_groups[:2]:
        for action in group._group_actions:
            if action.dest not in {"help", "config"} and action.help != argparse.SUPPRESS:
                text = (action.help or "").replace("%%", "%")
                yield _tag(action), _sentence(text) if text else ""


def _tag(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"Ar {_words(str(action.metavar))}"
    flags = " , ".join(f"Fl {_words(name[1:])}" for name in action.option_strings)
    takes = action.nargs != 0 and action.metavar
    return f"{flags} Ar {_words(str(action.metavar))}" if takes else flags


def _sentence(text: str) -> str:
    first = text if "://" in text.split()[0] else f"{text[0].upper()}{text[1:]}"
    return first + ("" if text.endswith(".") else ".")


def _options(section: str) -> Iterator[str]:
    title = SECTION_TITLES[section]
    yield f".Ss {_sentence(title).rstrip('.')}"
    yield from _tagged([_option(name, opt) for name, opt in options_of(SECTIONS[section]).items()])


def _option(name: str, opt: Option) -> tuple[str, str]:
    flag = f"Fl {_words(flag_of(name)[1:])}"
    value = "" if is_switch(opt) else f" Ar {_words('|'.join(opt.choices) or opt.metavar or 'TEXT')}"
    default = format_value(opt, default_of(name))
    text = _sentence(opt.help)
    return flag + value, f"{text} Default: {default}." if default else text


def _examples(command: Command) -> Iterator[str]:
    for what, line in command.examples:
        yield ".Pp"
        yield text_of(_sentence(what.rstrip(":")).rstrip(".") + ":")
        yield f".Dl {_words(line)}"


def mount_page() -> str:
    """mount.ossmount(8)."""
    parts = [
        _head("mount.ossmount", 8, "mount helper of ossmount for mount(8) and fstab(5)"),
        _section("SYNOPSIS", [".Nm", ".Ar SOURCE MOUNTPOINT", ".Op Fl sfnv", ".Op Fl o Ar OPTIONS"]),
        _section("DESCRIPTION", _HELPER),
        _section("EXAMPLES", [".Bd -literal -offset indent", *map(_line, _FSTAB), ".Ed"]),
        _section("SEE ALSO", [".Xr ossmount 1 ,", ".Xr fstab 5 ,", ".Xr systemd.mount 5 ,", ".Xr mount 8"]),
    ]
    return "\n".join(parts) + "\n"


_HELPER = [
    ".Nm",
    "is what",
    ".Xr mount 8",
    "runs for the types ossmount and fuse.ossmount.",
    "It returns when the mount serves, or says in one line what is wrong.",
    ".Pp",
    ".Ar OPTIONS",
    "are separated by commas.",
    "Every long option of",
    ".Xr ossmount 1",
    text_of(
        "may stand there without its hyphens in front, such as cache-size=50G; a comma within a value is"
        " written \\,. What mount(8), fstab and systemd put there and a read-only file system need not know"
        " is accepted: ro, _netdev, nofail, noauto, user, x-systemd.automount and their like. rw and unknown"
        " words are errors, the latter unless"
    ),
    ".Fl s",
    "is given.",
    ".Ar SOURCE",
    "is the word none where manifest= or objects= says what to mount.",
    ".Pp",
    text_of(
        "Give _netdev, so that the mount waits for the network. With x-systemd.automount it is made when it"
        " is first used, and a machine boots without it. Give allow_other, or root alone may read."
    ),
]

_FSTAB = (
    "s3://bucket/train/ /mnt/train fuse.ossmount ro,_netdev,allow_other,cache-size=50G 0 0",
    "oss://bucket/img/ /mnt/img fuse.ossmount ro,_netdev,allow_other,noauto,x-systemd.automount 0 0",
    "none /mnt/labels fuse.ossmount ro,_netdev,allow_other,manifest=/etc/ossmount/labels.tsv 0 0",
)


def main(directory: str = "build/man") -> None:
    """Writes both pages below ``directory``, where man(1) looks for them."""
    for name, section, page in (("ossmount", 1, ossmount_page()), ("mount.ossmount", 8, mount_page())):
        folder = Path(directory) / f"man{section}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.{section}").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
