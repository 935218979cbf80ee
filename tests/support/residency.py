"""What of a file is in the page cache, seen without reading any of it (mincore(2))."""

from __future__ import annotations

import ctypes
import mmap


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
