"""What of a file is in the page cache, seen without reading any of it (mincore(2)); and kept there."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.mlock.argtypes = _LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def resident_pages(fd: int, size: int) -> int:
    """How many pages of a file of ``size`` ≥ 1 bytes are in the page cache."""
    states = (ctypes.c_ubyte * pages_of(size))()
    with mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        result = _LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), states)
    assert result == 0
    return sum(state & 1 for state in states)


def pages_of(size: int) -> int:
    """How many pages ``size`` bytes have."""
    return -(-size // mmap.PAGESIZE)


def resident(fd: int, size: int) -> bool:
    """True when every page of the file is in the page cache."""
    return resident_pages(fd, size) == pages_of(size)


@contextlib.contextmanager
def locked_in_memory(paths: Iterable[Path]) -> Iterator[None]:
    """No page of these files is given up for want of memory or of use; a file system may still drop them.

    Machines that page idle memory out (docs/performance-notes.md, *Pages that go*) do so even with fresh
    pages, and whoever counts READs would count theirs. No descriptor is held. Raises OSError.
    """
    with contextlib.ExitStack() as mapped:
        for path in paths:
            if size := path.stat().st_size:
                address = _map_whole(path, size)
                mapped.callback(_LIBC.munmap, address, size)
                if _LIBC.mlock(address, size) != 0:
                    raise OSError(ctypes.get_errno(), "mlock: " + os.strerror(ctypes.get_errno()), str(path))
        yield


def _map_whole(path: Path, size: int) -> ctypes.c_void_p:
    with path.open("rb") as file:
        address = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap: " + os.strerror(ctypes.get_errno()), str(path))
    return ctypes.c_void_p(address)


def files_below(directory: Path) -> list[Path]:
    """All files of a tree."""
    return [path for path in directory.rglob("*") if path.is_file()]


def may_lock(size: int) -> bool:
    """True where this process may lock ``size`` bytes of memory."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return os.geteuid() == 0 or limit == resource.RLIM_INFINITY or limit >= size
