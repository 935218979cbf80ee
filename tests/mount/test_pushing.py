"""What is pushed into the page cache is not asked for again, whoever pushed it."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from collections.abc import Callable

import pytest

from tests.support.fake_filesystem import content, small_tree
from tests.support.mounting import Mounted, needs_fuse, wait_for

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(60)]

Mount = Callable[..., Mounted]
PREFETCH = ("--prefetch", "tests.support.fake_filesystem:prefetch_big")


def reads(mount: Mounted) -> int:
    return int(os.getxattr(mount.path, "user.fake.reads"))


def test_the_rest_of_a_file_that_was_begun_is_pushed(mount: Mount) -> None:
    mounted = mount("serve_pushing", 1)
    expected = content("big", small_tree()["big"])
    with (mounted.path / "big").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 1, 0) == expected[:1]
        wait_for(lambda: resident(file.fileno(), len(expected)))
        before = reads(mounted)
        assert os.pread(file.fileno(), len(expected), 0) == expected
        assert reads(mounted) == before == 1


def resident(fd: int, size: int) -> bool:
    """True when every page of the file is in the page cache, seen without reading any (mincore(2))."""
    pages = -(-size // mmap.PAGESIZE)
    states = (ctypes.c_ubyte * pages)()
    with mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        result = ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), states)
    assert result == 0
    return all(state & 1 for state in states)


def test_a_prefetcher_pushes_by_itself_and_is_replaced_when_it_dies(mount: Mount) -> None:
    mounted = mount("serve_small", 1, *PREFETCH)
    expected = content("big", small_tree()["big"])
    (mounted.path / "big").stat()
    mounted.wait_for(lambda: "stored by prefetcher 0" in mounted.log)
    assert (mounted.path / "big").read_bytes() == expected
    assert reads(mounted) == 0

    worker, prefetcher = mounted.children()
    os.kill(prefetcher, signal.SIGKILL)
    mounted.wait_for(lambda: mounted.log.count("stored by prefetcher 0") == 2)
    assert worker in mounted.children()
    assert mounted.unmount() == 0
