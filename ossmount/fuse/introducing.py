"""Introducing files to the kernel: prefetchers list directories through the mount itself.

Most programs list names and ask for nothing more, and a name alone costs the kernel a tenth of what it costs
with an inode. So their listings are answered briefly (:mod:`brief_listings`). But pages can be pushed only of
inodes that the kernel knows, and a file that it does not know costs a LOOKUP when it is opened. So a
prefetcher lists the files that it plans, and is answered in full: one request introduces a hundred.

What may live here: who introduces, how, and whether it works. Who may touch it: whoever has measured the
construction of an ImageFolder and the first epoch after it, before and after.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import threading
from pathlib import Path

from ossmount import system_calls

log = logging.getLogger(__name__)

LISTED_BYTES = 32 << 10
"""Of one READDIRPLUS: some 180 files with names of 16 bytes."""

_WORKS, _FAILED = 1, 2


class Introductions:
    """Which threads introduce, and whether that works. Made before the fork, by who knows the mountpoint.

    Shared memory: four bytes for each prefetcher, which only it writes (the number of its thread), and four
    for all.
    """

    def __init__(self, prefetchers: int, mountpoint: Path | None) -> None:
        self._mountpoint = mountpoint
        self._memory = mmap.mmap(-1, 4 * (prefetchers + 1))
        self._threads = memoryview(self._memory).cast("I")
        self._state = prefetchers
        self._threads[self._state] = _WORKS if prefetchers and mountpoint is not None else _FAILED

    def __repr__(self) -> str:
        return f"<Introductions at {self._mountpoint} work={self.work}>"

    @property
    def work(self) -> bool:
        """Whether prefetchers can list the mount."""
        return self._threads[self._state] == _WORKS

    def introduces(self, thread: int) -> bool:
        """Whether ``thread`` (as the kernel numbers it) lists for a prefetcher.

        Threads of another PID namespace all have number 0, and so have places where nobody has begun.
        """
        return thread != 0 and thread in self._threads[: self._state]

    def introducer(self, number: int) -> Introducer | None:
        """For prefetcher ``number``; None without a mountpoint."""
        return Introducer(self, number, self._mountpoint) if self._mountpoint is not None else None

    def begin(self, number: int, thread: int) -> None:
        """``thread`` introduces for prefetcher ``number``."""
        self._threads[number] = thread

    def fail(self, why: OSError) -> None:
        """The mount cannot be listed from here: from now on every program is answered in full."""
        if self.work:
            self._threads[self._state] = _FAILED
            log.info("prefetchers cannot list the mount (%s): listings are answered in full", why)


class Introducer:
    """Lists directories for one prefetcher, in the thread that made it."""

    def __init__(self, introductions: Introductions, number: int, mountpoint: Path) -> None:
        self._introductions = introductions
        self._mountpoint = os.fsencode(mountpoint) + b"/"
        self._buffer = ctypes.create_string_buffer(LISTED_BYTES)
        introductions.begin(number, threading.get_native_id())

    def __repr__(self) -> str:
        return f"<Introducer at {os.fsdecode(self._mountpoint)}>"

    def introduce(self, path: bytes, ino: int, after: int) -> bool:
        """Whether the kernel was told of files in the directory at ``path``, from behind the child ``after``.

        ``path`` is relative to the mount, ``ino`` the directory's inode number; one that has another is left
        alone. Waits for a worker, some tenths of a millisecond.
        """
        if not self._introductions.work:
            return False
        try:
            return self._list(path, ino, after)
        except OSError as error:  # or another generation has come, or the mount has gone
            if isinstance(error, PermissionError):
                self._introductions.fail(error)
            return False

    def _list(self, path: bytes, ino: int, after: int) -> bool:
        directory = os.open(self._mountpoint + path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.fstat(directory).st_ino != ino:
                return False
            os.lseek(directory, after, os.SEEK_SET)
            return system_calls.read_directory(directory, self._buffer) > 0
        finally:
            os.close(directory)
