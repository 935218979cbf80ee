"""Under which policy the processes of a mount run (sched(7)): a crowd of readers, one alone, prefetchers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from ossmount.fuse.scheduling import window
from tests.support.mounting import Mounted, needs_fuse

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(60)]

Mount = Callable[..., Mounted]

PROCESSORS = len(os.sched_getaffinity(0))
WINDOWS = 2 * window(PROCESSORS)
"""Opens of which one whole window is part, wherever the last ended."""


def open_in_turns(path: os.PathLike[str], threads: int, opens: int) -> None:
    """``threads`` threads open a file once in each round, ``opens`` times together or a few more."""
    barrier = threading.Barrier(threads)

    def run() -> None:
        for _ in range(-(-opens // threads)):
            barrier.wait(20)
            os.close(os.open(path, os.O_RDONLY))

    readers = [threading.Thread(target=run) for _ in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()


def test_a_worker_lets_a_crowd_run_and_hurries_for_one(mount: Mount) -> None:
    mounted = mount("serve_small", 1)
    (worker,) = mounted.children()
    policies = [os.sched_getscheduler(worker)]
    for readers in (PROCESSORS + 1, 1):
        open_in_turns(mounted.path / "big", readers, WINDOWS)
        policies.append(os.sched_getscheduler(worker))
    assert policies == [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER]
    assert mounted.unmount() == 0


def test_prefetchers_let_programs_run(mount: Mount) -> None:
    mounted = mount("serve_small", 1, "--prefetch", "tests.support.fake_filesystem:prefetch_big")
    (mounted.path / "big").stat()  # pages are taken of inodes that the kernel knows
    mounted.wait_for(lambda: "stored by prefetcher 0" in mounted.log)
    worker, prefetcher = mounted.children()
    assert os.sched_getscheduler(worker) == os.SCHED_OTHER
    assert os.sched_getscheduler(prefetcher) == os.SCHED_BATCH
    assert mounted.unmount() == 0
