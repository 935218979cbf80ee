"""What of a file is in the page cache, seen without reading any of it (mincore(2)); and kept there."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

MAP_LOCKED = 0x2000
"""mmap(2): brings the pages in and locks them; Python does not name it."""


def resident_pages(fd: int, size: int) -> int:
    """How many pages of a file of ``size`` ≥ 1 bytes are in the page cache."""
    states = (ctypes.c_ubyte * pages_of(size))()
    with mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        result = ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), states)
    assert result == 0
    return sum(state & 1 for state in states)


def pages_of(size: int) -> int:
    """How many pages ``size`` bytes have."""
    return -(-size // mmap.PAGESIZE)


def missing_pages(fd: int, size: int) -> int:
    """How many of them are not in the page cache."""
    return pages_of(size) - resident_pages(fd, size)


def resident(fd: int, size: int) -> bool:
    """True when every page of the file is in the page cache."""
    return missing_pages(fd, size) == 0


@contextlib.contextmanager
def locked_in_memory(paths: Iterable[Path]) -> Iterator[None]:
    """No page of these files is given up for want of memory or of use; a file system may still drop them.

    Machines that page idle memory out (docs/performance.md, *Pages that go*) do so even with fresh pages,
    and whoever counts READs would count theirs. A descriptor is held for each file. Raises OSError.
    """
    with contextlib.ExitStack() as mapped:
        for path in paths:
            with path.open("rb") as file:
                locked = mmap.MAP_SHARED | MAP_LOCKED
                mapped.enter_context(mmap.mmap(file.fileno(), 0, flags=locked, prot=mmap.PROT_READ))
        yield


def may_lock(size: int) -> bool:
    """True where this process may lock ``size`` bytes of memory."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return os.geteuid() == 0 or limit == resource.RLIM_INFINITY or limit >= size
