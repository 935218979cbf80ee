"""The steps of a swap, with children that end when the test says so."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from ossmount.errors import OssmountError
from ossmount.fuse.children import KILLED_SECONDS, QUIET_SECONDS, Child, Death
from ossmount.fuse.swapping import GRACE_SECONDS, PATIENCE_SECONDS, Swap
from ossmount.fuse.worker import Kind, Plan, Status

OLD, NEW = cast("Plan", "the old plan"), cast("Plan", "the new plan")


class Mount:
    """Stands where the supervisor and its children are, and keeps what a swap does."""

    def __init__(self, *, resends: bool = True) -> None:
        self.plan = OLD
        self.living = [Child(Kind.PREFETCHER, 0, pid=1), Child(Kind.WORKER, 0, pid=2)]
        self.did: list[object] = []
        self.ended: list[OssmountError | None] = []
        self._resends = resends
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.swap = Swap(NEW, cast("Any", self), self.later, self.resend, self.lost, self.ended.append)

    def alive(self, kind: Kind | None = None) -> list[Child]:
        return [child for child in self.living if kind in (None, child.kind)]

    def halt(self, kind: Kind) -> None:
        self.did.append(("halt", kind))

    def send(self, signum: int, kind: Kind) -> None:
        self.did.append((signal.Signals(signum).name, kind))

    def leave(self, kind: Kind) -> list[Death]:
        left = [Death(child, -signal.SIGKILL) for child in self.alive(kind)]
        self.living = [child for child in self.living if child.kind is not kind]
        return left

    def renew(self, plan: Plan) -> None:
        assert not self.living
        self.did.append(plan)

    def return_to(self, plan: Plan) -> None:
        self.did.append(plan)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append((seconds, call))

    def resend(self) -> bool:
        self.did.append("resend")
        return self._resends

    def lost(self, deaths: Sequence[Death]) -> None:
        self.did.append([death.child.kind for death in deaths])
        self.swap.go_on(deaths)

    def ends(self, kind: Kind, status: int = Status.STOPPED) -> None:
        deaths = [Death(child, status) for child in self.alive(kind)]
        self.living = [child for child in self.living if child.kind is not kind]
        self.swap.go_on(deaths)

    def pass_time(self) -> float:
        """Does what is due next; how long that was put off."""
        seconds, call = self._timers.pop(0)
        call()
        return seconds


@pytest.fixture
def mount() -> Mount:
    return Mount()


def test_prefetchers_end_while_workers_answer(mount: Mount) -> None:
    """A push of theirs may wait for a READ, and would wait for ever once no worker accepts one."""
    mount.swap.begin()
    assert mount.did == [("halt", Kind.PREFETCHER)]
    assert mount.swap.ending is Kind.PREFETCHER
    mount.ends(Kind.PREFETCHER)
    assert mount.did == [("halt", Kind.PREFETCHER), ("halt", Kind.WORKER)]
    assert mount.swap.ending is Kind.WORKER
    mount.ends(Kind.WORKER)
    assert mount.did[2:] == [NEW]
    assert mount.swap.ending is None
    assert mount.ended == []


def test_a_mount_without_prefetchers_loses_no_time(mount: Mount) -> None:
    del mount.living[0]
    mount.swap.begin()
    assert mount.did == [("halt", Kind.PREFETCHER), ("halt", Kind.WORKER)]


def test_what_a_killed_worker_had_accepted_is_asked_again(mount: Mount) -> None:
    mount.swap.begin()
    mount.ends(Kind.PREFETCHER, -signal.SIGKILL)
    mount.ends(Kind.WORKER, -signal.SIGKILL)
    assert mount.did[2:] == [NEW, "resend"]


def test_nobody_is_waited_for_whom_no_signal_ends(mount: Mount) -> None:
    """Their places are filled anew, and the new ones answer what the old ones wait for in the kernel."""
    mount.swap.begin()
    assert mount.pass_time() == QUIET_SECONDS
    assert mount.pass_time() == KILLED_SECONDS
    assert mount.did[1:] == [("SIGKILL", Kind.PREFETCHER), [Kind.PREFETCHER], ("halt", Kind.WORKER)]
    assert mount.pass_time() == GRACE_SECONDS
    assert mount.pass_time() == KILLED_SECONDS
    assert mount.did[4:] == ["resend", ("SIGKILL", Kind.WORKER), [Kind.WORKER], NEW, "resend"]


def test_where_nothing_is_handed_out_again_workers_have_longer() -> None:
    mount = Mount(resends=False)
    del mount.living[0]
    mount.swap.begin()
    assert [mount.pass_time(), mount.pass_time()] == [QUIET_SECONDS, GRACE_SECONDS]
    assert mount.did[2:] == ["resend"]
    assert mount.pass_time() == PATIENCE_SECONDS
    assert mount.did[3:] == [("SIGKILL", Kind.WORKER)]


def test_a_step_that_was_taken_is_not_hurried(mount: Mount) -> None:
    mount.swap.begin()
    mount.ends(Kind.PREFETCHER)
    mount.ends(Kind.WORKER)
    did = list(mount.did)
    assert [mount.pass_time(), mount.pass_time()] == [QUIET_SECONDS, GRACE_SECONDS]
    assert mount.did == did


def test_the_way_back(mount: Mount) -> None:
    error = OssmountError("the index is truncated")
    mount.swap.fall_back(error)
    assert mount.did == [OLD]
    assert mount.ended == [error]
