"""From argv to an exit status.

What may live here: choosing the command, and the one place where errors become a line and a status.
Who may touch it: whoever changes that; commands themselves are in :mod:`ossmount.cli.commands`.
"""

from __future__ import annotations

import difflib
import errno
import io
import itertools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ossmount import __version__
from ossmount.cli.application import Application
from ossmount.cli.catalogue import COMMANDS
from ossmount.cli.command import Command, Context, parse
from ossmount.cli.output import printable
from ossmount.errors import OssmountError, SettingsError
from ossmount.places import is_missing

INTERRUPTED = 130
"""What shells give for SIGINT: 128 + 2."""

INTERNAL_ERROR = 70
"""``EX_SOFTWARE`` of sysexits.h: our fault, not the user's."""

EXIT_STATUSES = (
    (0, "done; for mount: the mount serves"),
    (1, "doctor found what keeps you from mounting, verify a difference; or no space is left"),
    (2, "an option, a variable or a file of settings cannot be used"),
    (3, "the source cannot be read"),
    (4, "the index cannot be used"),
    (5, "the store did not give what was asked for"),
    (6, "the mount cannot be made, or does not serve"),
    (7, "the cache directory cannot be used"),
    (INTERNAL_ERROR, "an error of ossmount itself: please report it"),
    (INTERRUPTED, "interrupted (Ctrl-C)"),
)
"""What each status means, for the documents; those from 2 to 7 are in the error tree."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of write(2) that are the disk's, or a quota's. Standard output may be a file, too."""

HELP_WORDS = frozenset({"-h", "--help", "help"})

GROUPS = frozenset(command.words[0] for command in COMMANDS if len(command.words) > 1)
"""Words that begin several commands, like ``index``."""


def main(
    argv: Sequence[str] | None = None,
    app: Application | None = None,
    environment: Mapping[str, str] | None = None,
    out: TextIO | None = None,
) -> int:
    """Runs a command and returns its exit status. Only ``--help`` leaves by SystemExit."""
    if argv is None:
        _unbuffer_errors()
        _open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None and Path(sys.argv[0]).name.startswith("mount."):
        words = from_mount_helper(words)
    context = Context(os.environ if environment is None else environment, app, out)
    try:
        status = _run(context, words)
        context.out.flush()  # what cannot be written is told here, not while the interpreter ends
    except OssmountError as error:
        return _fail(context, printable(str(error)), error.exit_status, error)
    except KeyboardInterrupt as error:
        return _fail(context, "interrupted", INTERRUPTED, error)
    except BrokenPipeError:
        _silence_stdout()
        return 128 + 13
    except Exception as error:  # the outermost frame: no traceback on a user's terminal
        if isinstance(error, OSError) and error.errno in FULL:
            return _no_space(context, error)
        line = printable(f"internal error: {type(error).__name__}: {error}")
        line = f"{line}; run it again with --log-level debug and report it"
        return _fail(context, line, INTERNAL_ERROR, error)
    else:
        if argv is None:
            _ignore_signals()
        return status


def _open_closed_streams() -> None:
    """Gives ``/dev/null`` to standard streams that are closed, as after ``>&-``.

    Python has None there, and the next file that is opened would get the stream's number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest one that is free: its own
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode))


def _unbuffer_errors() -> None:
    """What cannot be written to standard error, on a full disk, is lost at once.

    From a buffer Python tries again when it ends, and where that fails too its status is 120.
    """
    old = sys.stderr
    if old is None:
        return
    raw = io.FileIO(old.fileno(), "w", closefd=False)
    # As with ``python -u``: no bytes stay in an object that is not buffered.
    sys.stderr = io.TextIOWrapper(raw, old.encoding, old.errors, line_buffering=True, write_through=True)


def _ignore_signals() -> None:
    """The process ends now, which takes it a while: a signal must not make a failure of what is done."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def _no_space(context: Context, error: OSError) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _silence_stdout()
    what = "standard output or a temporary file" if error.filename is None else str(error.filename)
    line = printable(f"{what} cannot be written: {error.strerror}; make room, or write elsewhere")
    return _fail(context, line, OssmountError.exit_status, error)


def _fail(context: Context, line: str, status: int, error: BaseException) -> int:
    if context.log_format == "json":
        from ossmount.app.logs import json_line

        line = json_line(line, logging.ERROR, error if context.debug else None)
    else:
        shown = traceback.format_exc() if context.debug else ""
        line = f"{shown}ossmount: {line}"
    with suppress(OSError):  # where nobody can read it, the status still tells
        print(line, file=sys.stderr)  # noqa: T201 - the error line itself
    return status


def _silence_stdout() -> None:
    """Keeps the interpreter from flushing into the closed pipe, or full disk, when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(context: Context, words: list[str]) -> int:
    # Known before the settings are, so that an error while they are made has its traceback and form too.
    context.debug = ("--log-level", "debug") in itertools.pairwise(words)
    if ("--log-format", "json") in itertools.pairwise(words):
        context.log_format = "json"
    if not words:
        sys.stderr.write(overview())
        return SettingsError.exit_status
    if _asks_for_the_overview(words):
        context.out.write(overview())
        return 0
    if words[0] in {"-V", "--version"}:
        context.out.write(f"ossmount {__version__}\n")
        return 0
    command, rest = choose(words)
    return command.run(context, parse(command, rest))


def _asks_for_the_overview(words: Sequence[str]) -> bool:
    """``--help`` alone, or with a word that begins several commands."""
    asked = [word for word in words if word not in HELP_WORDS]
    return not asked or (len(asked) == 1 < len(words) and asked[0] in GROUPS)


def choose(words: list[str]) -> tuple[Command, list[str]]:
    """The command that ``words`` name, and the rest. Raises SettingsError.

    What is no command is a source: ``ossmount SOURCE MOUNTPOINT -o opts`` is ``ossmount mount …``.
    """
    if words[0] == "help":
        return choose([*words[1:], "--help"])
    for command in COMMANDS:
        if tuple(words[: len(command.words)]) == command.words:
            return command, words[len(command.words) :]
    if words[0] in GROUPS and (words[0] == "index" or _looks_like_a_command(words)):
        raise _unknown_command_of(words[0], words[1:])
    if _looks_like_a_command(words):
        near = difflib.get_close_matches(words[0], [command.words[0] for command in COMMANDS], n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "see 'ossmount --help'"
        raise SettingsError(f"{words[0]!r} is neither a command nor a source such as s3://bucket/", remedy)
    return COMMANDS[0], words


def _looks_like_a_command(words: Sequence[str]) -> bool:
    first = words[0]
    return not first.startswith("-") and "/" not in first and first != "none" and is_missing(first)


def _unknown_command_of(group: str, rest: Sequence[str]) -> SettingsError:
    known = [command.name for command in COMMANDS if command.words[0] == group]
    asked = f"{group} {rest[0]!r} is not known" if rest else f"{group} what?"
    return SettingsError(asked, f"one of: {', '.join(known)}")


def overview() -> str:
    """What ``ossmount --help`` shows."""
    width = max(len(command.name) for command in COMMANDS)
    lines = "\n".join(f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS)
    return (
        "usage: ossmount COMMAND ...\n"
        "       ossmount SOURCE MOUNTPOINT [-o OPTIONS]\n\n"
        "Reads training data from S3 or Alibaba Cloud OSS as if it were a local directory.\n\n"
        f"commands:\n{lines}\n\n"
        "  ossmount COMMAND --help  explains a command, with examples\n"
        "  ossmount --version       shows the version\n\n"
        "first steps:\n"
        "  ossmount doctor s3://bucket/train/            # does this machine have what it takes?\n"
        "  ossmount mount s3://bucket/train/ /mnt/train\n"
        "  python train.py /mnt/train\n"
        "  ossmount umount /mnt/train\n"
    )


def from_mount_helper(words: Sequence[str]) -> list[str]:
    """The words of ``mount`` from those that mount(8) gives a helper.

    mount(8), EXTERNAL HELPERS: ``/sbin/mount.suffix spec dir [-sfnv] [-N namespace] [-o options]
    [-t type.subtype]``; -s tolerates unknown options, -f does everything but the mount itself.
    """
    result = ["mount"]
    rest = iter(words)
    for word in rest:
        if word in {"-N", "-t"}:
            next(rest, None)
        elif word.startswith("-") and not word.startswith("--") and set(word[1:]) <= set("sfnv"):
            result[1:1] = [flag for letter, flag in (("s", "--sloppy"), ("f", "--fake")) if letter in word]
        else:
            result.append(word)
    return result
