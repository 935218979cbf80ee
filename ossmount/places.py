"""What stands at a path, asked without an exception: a path may lie where this user sees nothing.

What may live here: questions to stat(2), and how a file takes the place of another. Who may touch it: only
for another question. ``Path.exists`` and its like raise for a directory that may not be searched, a dead
mount and a name that is too long (Python < 3.14); a user who gives such a path is told by whatever opens it,
so nobody has to find words for it here.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

Place = str | os.PathLike[str]

_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


def is_missing(path: Place) -> bool:
    """Whether nothing is there, or can be. False where that cannot be seen: to open it tells why."""
    try:
        os.stat(path)  # noqa: PTH116 - a path may be a str here
    except OSError as error:
        return error.errno in _NOTHING_THERE
    except ValueError:  # a NUL, or what this locale cannot encode
        return True
    return False


def is_file(path: Place) -> bool:
    """Whether a regular file is seen there."""
    return stat.S_ISREG(_mode(path))


def is_directory(path: Place) -> bool:
    """Whether a directory is seen there."""
    return stat.S_ISDIR(_mode(path))


def is_pipe(path: Place) -> bool:
    """Whether a FIFO is seen there."""
    return stat.S_ISFIFO(_mode(path))


def is_no_file(path: Place) -> bool:
    """Whether something else than a regular file is seen there.

    A rename would take a device or a pipe away: ``/dev/null`` from the whole machine, where root writes.
    """
    return not stat.S_ISREG(_mode(path) or stat.S_IFREG)


@contextmanager
def replacing(target: Path) -> Iterator[IO[bytes]]:
    """What takes the place of the file ``target`` when all went well; nothing is left where that fails.

    A device or a pipe such as ``/dev/stdout`` is not replaced but written. Raises OSError.
    """
    if is_no_file(target):
        with target.open("wb") as output:
            yield output
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)  # of a killed process that had this number: in a container all have
    try:
        with beside.open("xb") as output:
            yield output
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def is_still(descriptor: int, path: Place) -> bool:
    """Whether the open file is what stands at ``path`` now, neither removed nor replaced. Raises OSError."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116 - as above
    except FileNotFoundError:
        return False


def _mode(path: Place) -> int:
    """``st_mode``; 0, the mode of nothing, where none is to be had."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - as above
    except (OSError, ValueError):
        return 0
