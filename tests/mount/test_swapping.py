"""The swap to another file system under a live mount, and the way back where that does not work; and what may
hold up a swap as well as the end.

Touch it when a swap's steps change (ossmount/fuse/swapping.py).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.conftest import FAKES
from tests.support.fake_filesystem import content, small_tree
from tests.support.mounting import (
    Mounted,
    is_mounted,
    is_running,
    needs_fuse,
    reading,
    wait_for,
    waits_in_kernel,
)

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(90)]

Mount = Callable[..., Mounted]


class Swapping:
    """A mount of the small tree that can be told to swap."""

    def __init__(self, mount: Mount, tmp_path: Path, *options: str, factory: str = "serve_small") -> None:
        self._control = tmp_path / "control"
        os.mkfifo(self._control)
        self.mounted = mount(factory, 2, "--control", str(self._control), *options)

    def swap(self, factory: str) -> str:
        """Swaps to what ``factory`` serves; with what it ended ("None": in order)."""
        before = self.ends()
        self._control.write_text(f"swap {FAKES}:{factory}\n")
        self.mounted.wait_for(lambda: len(self.ends()) > len(before), 30)
        return self.ends()[-1]

    def ends(self) -> list[str]:
        return [
            line.partition("swapped: ")[2] for line in self.mounted.log.splitlines() if "swapped: " in line
        ]

    def names(self) -> set[str]:
        return set(os.listdir(self.mounted.path))  # noqa: PTH208 - of a mount, as programs do

    def serves_as_before(self) -> bool:
        """The old tree with its contents, by two workers."""
        self.mounted.wait_for(lambda: len(self.mounted.children()) == 2)
        sizes = small_tree()
        whole = (self.mounted.path / "big").read_bytes() == content("big", sizes["big"])
        return whole and "new" not in self.names()


@pytest.fixture
def swapping(mount: Mount, tmp_path: Path) -> Swapping:
    return Swapping(mount, tmp_path)


def test_there_and_back(swapping: Swapping) -> None:
    before = swapping.mounted.children()
    assert swapping.swap("serve_next") == "None"
    assert "new" in swapping.names()
    assert set(before).isdisjoint(swapping.mounted.children())
    assert swapping.swap("serve_small") == "None"
    assert swapping.serves_as_before()


@pytest.mark.parametrize(
    ("factory", "reason"),
    [("serve_nothing", "the index is truncated; build it again"), ("serve_and_die", "again and again")],
)
def test_new_workers_that_fail_leave_the_old_ones_serving(
    swapping: Swapping, factory: str, reason: str
) -> None:
    """One says why it cannot start; the other is killed before it can say anything."""
    with (swapping.mounted.path / "big").open("rb", buffering=0) as stream:
        assert stream.read(10) == content("big", 10)
        assert reason in swapping.swap(factory)
        assert stream.read(10) == content("big", 20)[10:], "who has a file open notices nothing"
    assert swapping.serves_as_before()
    assert swapping.swap("serve_next") == "None", "another try may work"
    assert "new" in swapping.names()
    assert swapping.mounted.unmount() == 0


def test_a_swap_that_failed_leaves_no_process(swapping: Swapping) -> None:
    swapping.swap("serve_nothing")
    assert swapping.serves_as_before()
    assert swapping.mounted.unmount() == 0
    assert swapping.mounted.children() == []


def test_a_prefetcher_that_does_not_end_holds_up_no_swap(mount: Mount, tmp_path: Path) -> None:
    """What it does can wait: it is not given the grace that workers are given to answer."""
    swapping = Swapping(mount, tmp_path, "--prefetch", f"{FAKES}:prefetch_deaf", "--grace", "3600")
    swapping.mounted.wait_for(lambda: "deaf" in swapping.mounted.log)
    before = set(swapping.mounted.children())
    assert len(before) == 3
    assert swapping.swap("serve_next") == "None"
    assert "new" in swapping.names()
    assert before.isdisjoint(swapping.mounted.children())
    assert swapping.mounted.unmount() == 0
    assert swapping.mounted.children() == []


def push_that_waits(mounted: Mounted) -> list[int]:
    """Returns once the prefetcher waits in the kernel: the mount's children."""
    children = mounted.children()
    mounted.wait_for(lambda: "pushing" in mounted.log and any(map(waits_in_kernel, children)))
    return children


def test_a_push_that_waits_for_a_read_holds_up_no_swap(mount: Mount, tmp_path: Path) -> None:
    """No signal ends it, and the READ is answered by the next generation or not at all."""
    options = ("--prefetch", f"{FAKES}:prefetch_held", "--grace", "0.1")
    swapping = Swapping(mount, tmp_path, *options, factory="serve_holding")
    with reading(swapping.mounted.path / "big") as reader:
        before = push_that_waits(swapping.mounted)
        assert swapping.swap("serve_next") == "None"
        assert reader.communicate(timeout=20)[0] == content("big", small_tree()["big"])
    swapping.mounted.wait_for(lambda: not any(map(is_running, before)))
    assert swapping.mounted.unmount() == 0


def test_a_push_that_waits_for_a_read_holds_up_no_end(mount: Mount) -> None:
    """At the second signal open files are not served any more."""
    mounted = mount("serve_holding", 2, "--prefetch", f"{FAKES}:prefetch_held")
    with reading(mounted.path / "big") as reader:
        before = push_that_waits(mounted)
        mounted.supervisor.send_signal(signal.SIGTERM)
        mounted.wait_for(lambda: not is_mounted(mounted.path))
        mounted.supervisor.send_signal(signal.SIGTERM)
        assert mounted.supervisor.wait(30) == 0
        assert reader.wait(20) != 0, "who reads gets an error"
    wait_for(lambda: not any(map(is_running, before)))
