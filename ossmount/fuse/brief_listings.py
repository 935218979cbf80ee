"""Listings that tell files by name only: READDIRPLUS with node id 0, of which the kernel makes no inode.

What may live here: who is answered so, and how it is done with pyfuse3. Who may touch it: whoever has
measured the construction of an ImageFolder, ``find -size``, and ``ls -l`` of a large directory, before and
after.
"""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from enum import IntEnum

import pyfuse3

ASKS_OFTEN = 16
"""Files that a thread looks up by itself, after which it is taken for one that wants attributes."""

WANTS_NAMES = 8
"""Directories that a thread lists, after which it is taken for one that wants names only."""

LISTERS = 1024
"""Threads that a worker remembers."""

_MARK = 0x0123_4567_89AB_CDEF


class Detail(IntEnum):
    """Of which files a listing tells attributes; part of the handle of a directory."""

    NONE = 0
    LATER = 1 << 61
    """Of those behind the first answer."""
    ALL = 1 << 62


DETAILS = Detail.LATER | Detail.ALL


class Listers:
    """What one worker knows of the threads that list. It guesses: a wrong guess costs LOOKUPs, or inodes.

    ``ls -l``, ``find -size`` and ``du`` ask for attributes of every name, ``ImageFolder`` of none. So names
    come first, of a large directory only the first hundreds, until a thread has shown what it is.
    """

    def __init__(self) -> None:
        self._threads: OrderedDict[int, list[int]] = OrderedDict()
        """Directories listed and files looked up."""

    def __repr__(self) -> str:
        return f"<Listers {len(self._threads)} threads>"

    def opens(self, thread: int) -> Detail:
        """``thread`` (as the kernel numbers it) begins to list a directory: what it is told."""
        seen = self._threads.get(thread)
        if seen is None:
            seen = self._threads[thread] = [0, 0]
            if len(self._threads) > LISTERS:
                self._threads.popitem(last=False)
        seen[0] += 1
        if seen[1] >= ASKS_OFTEN:
            return Detail.ALL
        return Detail.NONE if seen[0] > WANTS_NAMES else Detail.LATER

    def looks_up(self, thread: int) -> None:
        """``thread`` asks for a file by name."""
        seen = self._threads.get(thread)
        if seen is not None:
            seen[1] += 1


class BriefEntry:
    """Attributes for READDIRPLUS that hold an inode number to show, and node id 0: nothing to remember.

    ``pyfuse3.EntryAttributes`` sets both at once, so the number is written into the memory of the object.
    Where that looks otherwise than expected, :meth:`of` gives None.
    """

    def __init__(self, entry: pyfuse3.EntryAttributes, number: memoryview) -> None:
        self.entry = entry
        self.number = number
        """One element: the inode number to show."""

    @classmethod
    def of(cls, entry: pyfuse3.EntryAttributes) -> BriefEntry | None:
        """Makes ``entry``, which nobody else may use from now on, a brief one."""
        size = sys.getsizeof(entry)
        memory = memoryview((ctypes.c_char * size).from_address(id(entry))).cast("B")
        entry.st_ino = _MARK
        found = [at for at in range(0, size - 7, 8) if memory[at : at + 8].cast("Q")[0] == _MARK]
        if len(found) != 2:
            return None
        entry.st_ino = 0
        number = memory[found[1] : found[1] + 8].cast("Q")
        number[0] = _MARK
        return cls(entry, number) if entry.st_ino == 0 else None
