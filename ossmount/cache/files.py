"""Directory, descriptors and the lock between processes: what the disk cache needs of the operating system.

No mmap anywhere: a page that cannot be read or a file cut short would be SIGBUS for the whole process, while
``pread`` and ``pwrite`` give an error that is a miss, for half a microsecond more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from ossmount.errors import CacheError

READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""What writing fails with where it is not allowed."""

LOCK_PATIENCE = 2.0
"""Seconds to wait for another process: the longest work under the lock (doubling a table) takes less. Who
waits longer waits for a stopped process, and declines to cache instead."""

YIELDS = 50
"""Attempts, about 1.5 µs each, before sleeping: a block is entered in 10 µs, the shortest sleep takes 70."""

IOV_MAX = 1024
"""Parts that Linux takes with one ``pwritev``: a span of tiny neighbours may be of more."""


class LockBusy(OSError):
    """Another process holds the lock for longer than any of its work takes."""


class File:
    """A descriptor that is closed when the last reference goes: a reader in another thread keeps it valid."""

    __slots__ = ("direct", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.direct: File | None = None
        """The same file by a descriptor of its own, for writes past the page cache; closed with this one."""

    def __repr__(self) -> str:
        return f"File(fd={self.fd})"

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


def make_directory(path: Path) -> bool:
    """Creates the directory (0700); False where that is not allowed but it is there already."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in READ_ONLY or not path.is_dir():
            raise
        return False
    return True


def refuse_world_writable(path: Path, directory: File) -> None:
    """Anyone who can write blocks can feed readers: the checksums prove accidents, not intent."""
    if os.fstat(directory.fd).st_mode & stat.S_IWOTH:
        raise CacheError(f"cache directory {path} is writable by everybody", f"run: chmod 0700 {path}")


def write_all(fd: int, data: bytes, offset: int) -> None:
    """``pwrite`` until everything is written. Raises OSError (a full disk shows here)."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        count = os.pwrite(fd, memoryview(data)[written:], offset + written)
        if count == 0:
            raise OSError(errno.EIO, "write made no progress")
        written += count


def write_parts(fd: int, parts: Sequence[bytes], offset: int) -> None:
    """``write_all`` of all ``parts``, one behind the other."""
    for first in range(0, len(parts), IOV_MAX):
        some = parts[first : first + IOV_MAX]
        size = sum(map(len, some))
        written = os.pwritev(fd, some, offset)
        if written < size:
            write_all(fd, b"".join(some)[written:], offset + written)
        offset += size


def try_lock(fd: int) -> bool:
    """Takes the exclusive ``flock`` if nobody has it. The kernel drops it when the last descriptor closes."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class SharedLock:
    """Mutual exclusion between threads and, through ``flock``, processes. Not reentrant.

    ``flock`` and not ``fcntl`` records: it belongs to the open file, so two caches in one process exclude
    each other as well, and closing an unrelated descriptor does not drop it.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        self._threads = threading.Lock()

    def __repr__(self) -> str:
        return f"SharedLock({self._file!r}, held={self._threads.locked()})"

    def acquire(self, patience: float) -> None:
        """Takes the lock within ``patience`` seconds. Raises LockBusy, OSError."""
        if not self._threads.acquire(timeout=patience):
            raise LockBusy(errno.EAGAIN, "another thread holds the lock of the cache")
        try:
            if not try_lock(self._file.fd):
                self._wait(patience)
        except BaseException:
            self._threads.release()
            raise

    def _wait(self, patience: float) -> None:
        """Polls, because a blocking ``flock`` has no time limit. Most waits are microseconds: yield first."""
        give_up = time.monotonic() + patience
        turn = 0
        while not try_lock(self._file.fd):
            if time.monotonic() > give_up:
                raise LockBusy(errno.EAGAIN, "another process holds the lock of the cache")
            if turn < YIELDS:
                os.sched_yield()
            else:
                time.sleep(min(5e-3, 20e-6 * 1.5 ** (turn - YIELDS)))
            turn += 1

    def release(self) -> None:
        """Gives the lock up: to the other threads even where a dead disk refuses. Raises OSError."""
        try:
            fcntl.flock(self._file.fd, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def __enter__(self) -> None:
        self.acquire(LOCK_PATIENCE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
