"""What is pushed into the page cache is not asked for again, whoever pushed it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import pytest

from tests.support.fake_filesystem import content, small_tree
from tests.support.mounting import Mounted, needs_fuse, wait_for
from tests.support.residency import resident

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(60)]

Mount = Callable[..., Mounted]
TRIES = 3
"""A machine may take pages back at any time (docs/performance-notes.md, *Pages that go*: one try in thirty
found some gone); what is not pushed at all is missing in each."""

PREFETCH = ("--prefetch", "tests.support.fake_filesystem:prefetch_big")


def reads(mount: Mounted) -> int:
    return int(os.getxattr(mount.path, "user.fake.reads"))


def pushes_the_rest(mounted: Mounted) -> bool:
    """Whether a file that was begun is read to its end without another READ."""
    expected = content("big", small_tree()["big"])
    with (mounted.path / "big").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 1, 0) == expected[:1]
        with contextlib.suppress(pytest.fail.Exception):
            wait_for(lambda: resident(file.fileno(), len(expected)), seconds=5)
        before = reads(mounted)
        assert os.pread(file.fileno(), len(expected), 0) == expected
        return reads(mounted) == before == 1


def pushes_all(mounted: Mounted) -> bool:
    """Whether a file is read without a READ after its prefetcher has stored it."""
    (mounted.path / "big").stat()
    mounted.wait_for(lambda: "stored by prefetcher 0" in mounted.log)
    assert (mounted.path / "big").read_bytes() == content("big", small_tree()["big"])
    return reads(mounted) == 0


def test_the_rest_of_a_file_that_was_begun_is_pushed(mount: Mount) -> None:
    assert any(pushes_the_rest(mount("serve_pushing", 1)) for _ in range(TRIES))


def test_a_prefetcher_pushes_by_itself_and_is_replaced_when_it_dies(mount: Mount) -> None:
    tries = (mount("serve_small", 1, *PREFETCH) for _ in range(TRIES))
    mounted = next(mounted for mounted in tries if pushes_all(mounted))

    worker, prefetcher = mounted.children()
    os.kill(prefetcher, signal.SIGKILL)
    mounted.wait_for(lambda: mounted.log.count("stored by prefetcher 0") == 2)
    assert worker in mounted.children()
    assert mounted.unmount() == 0
