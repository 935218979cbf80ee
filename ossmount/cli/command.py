"""What a command is, and the parser that is made of one.

What may live here: the frame that all commands share. Who may touch it: whoever changes how commands are
declared. A parser is made for the one command that runs, not for all: ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn, TextIO, cast

from ossmount.cli.application import Application, Kubernetes, real_application, real_kubernetes
from ossmount.cli.options import add_option, add_options, settings_of
from ossmount.config import ALL_OPTIONS, Settings
from ossmount.errors import SettingsError


class Context:
    """What a command works with; made by :func:`ossmount.cli.main`, by tests with fakes."""

    def __init__(
        self, environment: Mapping[str, str], app: Application | None = None, out: TextIO | None = None
    ) -> None:
        self.environment = environment
        self.out = out or sys.stdout or io.StringIO()  # nobody listens where it was closed
        self.debug = False
        self.log_format = "text"
        self._app = app

    @cached_property
    def kubernetes(self) -> Kubernetes:
        """What runs in Kubernetes; imported at first use. A fake application is a fake of this, too."""
        return real_kubernetes() if self._app is None else cast(Kubernetes, self._app)

    @cached_property
    def app(self) -> Application:
        """The application; imported at first use."""
        return self._app or real_application()

    def settings(self, arguments: argparse.Namespace) -> Settings:
        """The settings of all layers. Raises SettingsError."""
        composed = settings_of(arguments.given or [], arguments.config, self.environment)
        self.debug = composed.mount.log_level == "debug"
        self.log_format = composed.observability.log_format
        return composed


@dataclass(frozen=True, slots=True)
class Command:
    """A command: ``words`` as typed, a line for the list, a text and examples for ``--help``."""

    words: tuple[str, ...]
    summary: str
    details: str
    examples: tuple[tuple[str, str], ...]
    """Pairs of (what it does, command line)."""
    run: Callable[[Context, argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    sections: tuple[str, ...] = ()
    """Sections of the settings whose flags the command takes; () for a command without settings."""
    omit: tuple[str, ...] = ()
    usage: str = ""
    """Positional arguments as the usage line shows them."""

    @property
    def name(self) -> str:
        """As it is typed: ``index build``."""
        return " ".join(self.words)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours: one line, status 2."""

    def error(self, message: str) -> NoReturn:
        """Raises SettingsError instead of printing usage and leaving."""
        raise SettingsError(message.replace("the following arguments are required", "missing"), self._hint())

    def _hint(self) -> str:
        return f"see '{self.prog} --help'"


def parser_of(command: Command) -> Parser:
    """The parser of one command."""
    parser = Parser(
        prog=f"ossmount {command.name}",
        usage=f"ossmount {command.name} {'[OPTIONS] ' if command.sections else ''}{command.usage}".rstrip(),
        description=f"{command.summary[0].upper()}{command.summary[1:]}.\n\n{command.details}".strip(),
        epilog=_examples(command),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.set_defaults(given=[], config=None)
    command.arguments(parser)
    if command.sections:
        _add_settings(parser, command)
    return parser


def _add_settings(parser: Parser, command: Command) -> None:
    general = parser.add_argument_group("settings")
    general.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file with options by their long names; the environment (OSSMOUNT_CACHE_SIZE for"
        " --cache-size) overrides it, flags override both",
    )
    if "mount" not in command.sections:
        add_option(general, "log_level", ALL_OPTIONS["log_level"])
    add_options(parser, command.sections, command.omit)


def parse(command: Command, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of ``command``; positionals and flags may be mixed. Raises SettingsError."""
    return parser_of(command).parse_intermixed_args(list(words))


def _examples(command: Command) -> str:
    lines = [f"  # {what}\n  {line}" for what, line in command.examples]
    return "examples:\n" + "\n\n".join(lines) if lines else ""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Wide enough that most options take one line, and texts keep their line breaks."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)
