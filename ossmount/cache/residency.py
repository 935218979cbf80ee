"""Bytes that the kernel has in memory, and how to get them there before anybody asks.

Handing a read to a thread and its bytes back costs 100 µs of two cores, reading 68 KB from memory 10: who can
know that no disk is waited for does without the thread. What may live here: the two system calls that tell.
Who may touch it: whoever has measured the benchmark's case *disk-cached* before and after.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from typing import NamedTuple

from ossmount.cache.files import File

LARGEST = 1 << 20
"""Bytes read at once without a thread: copying more takes longer than the hand-over saves."""

STEP = 1 << 20
"""Bytes that a disk is asked for at once: it has done with them in a millisecond or two."""

GAP = 64 << 10
"""Bytes between two ranges that are read as one: a disk brings them in the time that asking again takes."""

_NOT_HERE = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL})
"""What the kernel says of bytes on the disk, and of file systems and kernels that cannot tell."""

_log = logging.getLogger(__name__)


class Range(NamedTuple):
    """Some bytes of a file."""

    file: File
    offset: int
    length: int


def read_resident(file: File, length: int, offset: int) -> bytes | None:
    """The bytes; None where some are not in memory, or nobody can tell. Raises OSError."""
    buffer = bytearray(length)
    return bytes(buffer) if _fill(buffer, file, offset) else None


class ResidentReader:
    """Reads as :func:`read_resident`, for one thread: into memory that stays in the processor's caches."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(LARGEST))

    def __repr__(self) -> str:
        return f"ResidentReader({len(self._buffer)})"

    def read(self, file: File, length: int, offset: int) -> memoryview | None:
        """At most ``LARGEST`` bytes, until the next call; None as :func:`read_resident`. Raises OSError."""
        view = self._buffer[:length]
        return view if _fill(view, file, offset) else None


def _fill(buffer: bytearray | memoryview, file: File, offset: int) -> bool:
    try:
        return os.preadv(file.fd, [buffer], offset, os.RWF_NOWAIT) == len(buffer)
    except OSError as error:
        if error.errno in _NOT_HERE:
            return False
        raise


def read_ahead(ranges: Iterable[Range]) -> None:
    """Has the kernel bring ``ranges`` into memory, neighbours at once, and waits for it.

    A step at a time: a queue of hundreds of megabytes would stand in front of every read that a program waits
    for. What fails is read from the disk later.
    """
    steps = [step for found in _merged(ranges) for step in _steps(found)]
    asked = 0
    try:
        for number, (file, offset, length) in enumerate(steps, 1):
            os.posix_fadvise(file.fd, offset, length, os.POSIX_FADV_WILLNEED)
            asked += length
            if asked >= STEP or number == len(steps):
                asked = 0
                os.pread(file.fd, 1, offset + length - 1)  # waits
    except OSError as error:
        _log.debug("no reading ahead in the disk cache: %s", error)


def _merged(ranges: Iterable[Range]) -> Iterable[Range]:
    """Ranges in the order of the disk, those that nearly touch made one."""
    current: Range | None = None
    for found in sorted(ranges, key=lambda r: (r.file.fd, r.offset)):
        if current is not None and found.file is current.file and found.offset <= _end(current) + GAP:
            current = current._replace(length=max(_end(current), _end(found)) - current.offset)
            continue
        if current is not None:
            yield current
        current = found
    if current is not None:
        yield current


def _steps(found: Range) -> Iterable[Range]:
    for start in range(found.offset, _end(found), STEP):
        yield Range(found.file, start, min(STEP, _end(found) - start))


def _end(found: Range) -> int:
    return found.offset + found.length
