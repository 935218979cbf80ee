"""Bytes that the kernel has in memory, or soon has, and how to get them there before anybody asks.

Handing a read to a thread and its bytes back costs 100 µs of two cores, and several times as much where
caches are cold; reading 68 KB from memory costs 10. So who can know that no disk is waited for, or only a
quick one, does without the thread. What may live here: the two system calls that tell. Who may touch it:
whoever has measured the benchmark's case *disk-cached*, and epochs that lose pages, before and after
(docs/performance-notes.md).
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ossmount.cache.files import File

LARGEST = 1 << 20
"""Bytes read at once without a thread: copying more takes longer than the hand-over saves."""

NAPS = (0.0001, 0.0002)
"""Seconds after which bytes that were not in memory are looked for again: the first look has had the disk
asked for them, and a quick one answers in less time than a thread takes. All requests of this process wait
with it."""

SHUNNED = 64
"""Reads that do not wait so after one for which it was in vain: this disk is slow, or busy."""

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
    """Reads for one thread what is in memory, or comes from the disk at once; ``sleep`` takes seconds.

    Into memory that stays in the processor's caches.
    """

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        self._buffer = memoryview(bytearray(LARGEST))
        self._sleep = sleep
        self._shunned = 0
        """Reads that will not wait for the disk."""

    def __repr__(self) -> str:
        return f"ResidentReader(shunned={self._shunned})"

    def read(self, file: File, length: int, offset: int) -> memoryview | None:
        """At most ``LARGEST`` bytes, until the next call; else None. Raises OSError."""
        view = self._buffer[:length]
        return view if _fill(view, file, offset) or self._soon(view, file, offset) else None

    def _soon(self, view: memoryview, file: File, offset: int) -> bool:
        """Whether the disk answers at once: a ``_fill`` in vain has the kernel ask it."""
        if self._shunned:
            self._shunned -= 1
            return False
        for nap in NAPS:
            self._sleep(nap)
            if _fill(view, file, offset):
                return True
        self._shunned = SHUNNED
        return False


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
