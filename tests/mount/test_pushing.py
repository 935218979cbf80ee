"""What is pushed into the page cache is not asked for again, whoever pushed it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.support.fake_filesystem import content, small_tree
from tests.support.mounting import Mounted, needs_fuse, wait_for
from tests.support.residency import resident

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
