"""``ossmount completion SHELL``: what a shell may offer, taken from the parsers of the commands.

What may live here: reading parsers. How a shell writes it down is :mod:`ossmount.cli.completion_scripts`.
Who may touch it: whoever adds an argument whose values a shell could offer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from ossmount.cli.command import Command, Context, parser_of
from ossmount.config import ALL_OPTIONS

SHELLS = ("bash", "zsh", "fish")


class Value(Enum):
    """What an argument takes, as far as a shell can offer it."""

    NOTHING = auto()
    TEXT = auto()
    FILE = auto()
    DIRECTORY = auto()
    MOUNT = auto()
    """The mountpoint of a live mount."""
    CHOICE = auto()


_BY_METAVAR = {
    "DIR": Value.DIRECTORY,
    "FILE": Value.FILE,
    "FILE|URI": Value.FILE,
    "INDEX": Value.FILE,
    "INDEX_A": Value.FILE,
    "MOUNTPOINT": Value.MOUNT,
    "PATH": Value.FILE,
    "SOURCE": Value.DIRECTORY,
    "SOURCE MOUNTPOINT": Value.DIRECTORY,
}
"""What is not here is text that a shell cannot know."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag by all its names; ``choices`` where ``value`` is CHOICE."""

    names: tuple[str, ...]
    value: Value
    choices: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a shell may offer behind the words of a command."""

    words: tuple[str, ...]
    summary: str
    flags: tuple[Flag, ...]
    positional: Value
    choices: tuple[str, ...] = ()


def offer_of(command: Command) -> Offer:
    """The offer of one command; its first positional argument stands for all."""
    actions = [action for action in parser_of(command)._actions if action.help != argparse.SUPPRESS]
    positionals = [action for action in actions if not action.option_strings]
    first = positionals[0] if positionals else None
    return Offer(
        command.words,
        command.summary,
        tuple(_flag(action) for action in actions if action.option_strings),
        _value(first, ()) if first else Value.NOTHING,
        tuple(map(str, first.choices)) if first and first.choices else (),
    )


def _flag(action: argparse.Action) -> Flag:
    known = ALL_OPTIONS.get(action.dest)
    choices = tuple(map(str, action.choices)) if action.choices else known.choices if known else ()
    text = (action.help or "").replace("%%", "%")
    return Flag(tuple(action.option_strings), _value(action, choices), choices, text)


def _value(action: argparse.Action, choices: tuple[str, ...]) -> Value:
    if action.option_strings and action.nargs == 0:
        return Value.NOTHING
    if choices or action.choices:
        return Value.CHOICE
    return _BY_METAVAR.get(str(action.metavar), Value.TEXT)


def completion_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def completion(commands: Sequence[Command], context: Context, arguments: argparse.Namespace) -> int:
    """Writes the script that makes the shell complete ``commands``."""
    from ossmount.cli.completion_scripts import SCRIPTS  # other commands need not wait for it

    context.out.write(SCRIPTS[arguments.shell]([offer_of(command) for command in commands]))
    return 0
