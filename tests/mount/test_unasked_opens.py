"""A kernel that opens files without asking: what is left to ask, and that every byte is the right file's."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.fake_filesystem import content, small_tree
from tests.support.mounting import Mounted, needs_fuse

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(60)]

Mount = Callable[..., Mounted]

FROM_NOW_ON = "the kernel is told to open files without asking"
FILES = [path for path, size in small_tree().items() if size]


def count(mounted: Mounted, what: str) -> int:
    """A counter of the one worker."""
    return int(os.getxattr(mounted.path, f"user.fake.{what}"))


def read_in_parallel(mounted: Mounted, paths: list[str]) -> None:
    """Eight threads, pages of the kernel dropped first: every READ waits while others come."""

    def read(path: str) -> None:
        descriptor = os.open(mounted.path / path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            size = small_tree()[path]
            half = size // 2
            parts = os.pread(descriptor, half, 0), os.pread(descriptor, size, half)
            assert b"".join(parts) == content(path, size), path
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, paths))


def test_the_first_open_is_the_last_and_reads_find_their_file(mount: Mount) -> None:
    mounted = mount("serve_settled", 1)
    (mounted.path / "one").read_bytes()
    assert FROM_NOW_ON in mounted.log
    read_in_parallel(mounted, random.Random(5).sample(FILES, len(FILES)) * 3)
    assert count(mounted, "opens") == 1
    assert count(mounted, "unasked") >= 3 * len(FILES)
    assert mounted.unmount() == 0


def test_opens_that_matter_are_asked_each_time(mount: Mount) -> None:
    mounted = mount("serve_small", 1)
    for _ in range(3):
        (mounted.path / "one").read_bytes()
    assert count(mounted, "opens") == 3
    assert mounted.unmount() == 0


def test_pages_stay_over_opens_that_nobody_asks_for(mount: Mount) -> None:
    mounted = mount("serve_settled", 1)
    for _ in range(5):
        assert (mounted.path / "page-1").read_bytes() == content("page-1", 4095)
    assert count(mounted, "reads") <= 2, "one, and one more where the machine took the page"


def test_workers_that_follow_killed_ones_understand_reads(mount: Mount) -> None:
    mounted = mount("serve_settled", 2)
    read_in_parallel(mounted, FILES)
    before = mounted.children()
    for worker in before:
        os.kill(worker, signal.SIGKILL)
        read_in_parallel(mounted, FILES)
    mounted.wait_for(lambda: not set(before) & set(mounted.children()))
    read_in_parallel(mounted, FILES)
    assert mounted.unmount() == 0


def test_another_generation_is_read_without_asking_too(mount: Mount, tmp_path: Path) -> None:
    fifo = tmp_path / "control"
    os.mkfifo(fifo)
    mounted = mount("serve_settled", 2, "--control", str(fifo))
    read_in_parallel(mounted, FILES)
    fifo.write_text("swap tests.support.fake_filesystem:serve_next\n")
    mounted.wait_for(lambda: "swapped: None" in mounted.log)
    read_in_parallel(mounted, [path for path in FILES if path < "new"])  # others have new inode numbers
    assert (mounted.path / "new").read_bytes() == content("new", 3)
    assert mounted.unmount() == 0


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_nothing_is_opened_for_writing(mount: Mount, flags: int) -> None:
    mounted = mount("serve_settled", 1)
    (mounted.path / "one").read_bytes()
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        os.open(mounted.path / "one", flags)
