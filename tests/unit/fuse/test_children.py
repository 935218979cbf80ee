"""Children: real forks that end in different ways, and when one is tried again."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from ossmount.config import MountSettings
from ossmount.errors import MountError
from ossmount.fuse import children as children_module
from ossmount.fuse.accept import Token
from ossmount.fuse.children import (
    LONGEST_PAUSE,
    TOLERATED_QUICK_DEATHS,
    Child,
    Children,
    Death,
    pause_before_restart,
)
from ossmount.fuse.worker import Kind, Plan, Status

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], int]], Children]]:
    """``life(body)`` gives children that run ``body`` and exit with what it returns."""
    made: list[Children] = []

    def make(body: Callable[[], int]) -> Children:
        monkeypatch.setattr(children_module, "run_child", lambda kind, number, plan: body())
        plan = Plan(MountSettings(), cast("Any", None), None, cast("Any", None), Token(2), ready=1)
        made.append(Children(plan, lambda: None))
        return made[-1]

    yield make
    for children in made:
        children.end(0)


def reap_all(children: Children, count: int) -> list[Death]:
    deaths: list[Death] = []
    deadline = time.monotonic() + 10
    while len(deaths) < count and time.monotonic() < deadline:
        deaths += children.reap()
    return deaths


def sleep() -> int:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    time.sleep(60)
    return 0


def test_statuses_are_told_apart(life: Callable[[Callable[[], int]], Children]) -> None:
    children = life(lambda: Status.STOPPED)
    children.add(Kind.WORKER, 2)
    deaths = reap_all(children, 2)
    assert sorted((death.child.number, death.status) for death in deaths) == [(0, 75), (1, 75)]
    assert children.alive() == []


def test_signals_wait_until_a_child_has_its_own_dispositions(
    life: Callable[[Callable[[], int]], Children],
) -> None:
    def blocked() -> set[int]:
        return set(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    children = life(lambda: 3 if {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD} <= blocked() else 4)
    children.add(Kind.WORKER, 1)
    assert signal.SIGTERM not in blocked(), "else nothing would end the mount"
    assert [death.status for death in reap_all(children, 1)] == [3]


def test_a_killed_child_says_so(life: Callable[[Callable[[], int]], Children]) -> None:
    children = life(sleep)
    children.add(Kind.PREFETCHER, 1)
    children.send(signal.SIGKILL, Kind.WORKER)
    assert list(children.reap()) == []
    children.send(signal.SIGKILL, Kind.PREFETCHER)
    (death,) = reap_all(children, 1)
    assert str(death) == "prefetcher 0 was killed by signal 9"


def test_only_those_of_a_kind_are_halted(
    life: Callable[[Callable[[], int]], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    children = life(sleep)
    children.add(Kind.PREFETCHER, 1)
    children.add(Kind.WORKER, 1)
    for kind in Kind:
        children.members.append(Child(kind, 1, restart_at=1.0))
    sent: list[tuple[int, int]] = []
    with monkeypatch.context() as recording:
        recording.setattr(os, "kill", lambda pid, signum: sent.append((pid, signum)))
        children.halt(Kind.PREFETCHER)
    assert sent == [(children.members[0].pid, signal.SIGTERM)]
    assert {child.kind: child.restart_at for child in children.members[2:]} == {
        Kind.PREFETCHER: None,
        Kind.WORKER: 1.0,
    }


def test_prefetchers_end_first_and_are_not_waited_for_long(
    life: Callable[[Callable[[], int]], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they end, workers answer what they may wait for."""
    told, telling = os.pipe()

    def body(kind: Kind, number: int, plan: Plan) -> int:
        def tell(*_: object) -> None:
            os.write(telling, kind[:1].encode())
            if kind is Kind.WORKER:
                os._exit(0)

        signal.signal(signal.SIGTERM, tell)
        os.write(telling, b".")
        return sleep()

    children = life(sleep)
    monkeypatch.setattr(children_module, "run_child", body)
    monkeypatch.setattr(children_module, "QUIET_SECONDS", 0.1)
    children.add(Kind.PREFETCHER, 1)
    children.add(Kind.WORKER, 1)
    assert [len(children.alive(kind)) for kind in (None, Kind.WORKER, Kind.PREFETCHER)] == [2, 1, 1]
    assert os.read(told, 1) + os.read(told, 1) == b".."
    began = time.monotonic()
    children.end(20)
    assert time.monotonic() - began < 10
    assert children.alive() == []
    assert os.read(told, 3) == b"pw"
    for end in (told, telling):
        os.close(end)


def test_what_no_signal_ends_is_released_and_then_reaped(
    life: Callable[[Callable[[], int]], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that waits in the kernel for an answer of the mount keeps its process until then."""
    children = life(sleep)
    children.add(Kind.PREFETCHER, 1)
    (waiting,) = (child.pid for child in children.alive())
    status_of, answered = children_module._status, list[bool]()
    monkeypatch.setattr(
        children_module, "_status", lambda pid: status_of(pid) if answered or pid != waiting else None
    )
    monkeypatch.setattr(children_module, "KILLED_SECONDS", 0.05)
    children.end(0)
    assert children.alive() == []
    assert children.left == [waiting], "it is given up"
    monkeypatch.setattr(children_module, "KILLED_SECONDS", 10)
    children.end(0, lambda: answered.append(True))
    assert children.left == []
    with pytest.raises(ProcessLookupError):
        os.kill(waiting or 0, 0)


def test_a_process_whose_main_thread_has_ended_is_left_at_the_second_look(
    life: Callable[[Callable[[], int]], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its death would be told when its last thread has ended, which may wait for what a successor answers."""

    def body() -> int:
        threading.Thread(target=time.sleep, args=(60,)).start()
        ctypes.CDLL(None).pthread_exit(None)
        return 0

    children = life(body)
    children.add(Kind.WORKER, 1)
    (child,) = children.alive()
    monkeypatch.setattr(children_module, "run_child", lambda *_: sleep())
    children.add(Kind.PREFETCHER, 1)  # which lives
    deadline = time.monotonic() + 10
    pid = child.pid or 0
    while not children_module._is_headless(pid) and time.monotonic() < deadline:
        assert list(children.reap()) == []
    assert children.leave_headless() == []
    assert children.leave_headless() == [Death(child, -signal.SIGKILL)]
    assert (child.pid, children.left, list(children.reap())) == (None, [pid], [])
    assert children.leave_headless() == []
    os.kill(pid, signal.SIGKILL)


def test_a_child_that_raises_fails(life: Callable[[Callable[[], int]], Children]) -> None:
    def body() -> int:
        raise SystemExit(0)

    children = life(body)
    children.add(Kind.WORKER, 1)
    (death,) = reap_all(children, 1)
    assert death.status == Status.FAILED


def test_end_kills_what_does_not_obey(
    life: Callable[[Callable[[], int]], Children], caplog: pytest.LogCaptureFixture
) -> None:
    def stubborn() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return sleep()

    children = life(stubborn)
    children.add(Kind.WORKER, 2)
    pids = [child.pid for child in children.alive()]
    children.end(0.05)
    assert children.alive() == []
    assert not caplog.records, "nobody waits in the kernel"
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)


def test_the_first_restart_is_immediate_and_later_ones_wait(
    life: Callable[[Callable[[], int]], Children],
) -> None:
    children = life(sleep)
    child = Child(Kind.WORKER, 0, ready_at=time.monotonic())
    children.members.append(child)
    assert children.plan_restart(child)
    assert children.restart_due() is None
    assert child.pid is not None
    assert children.restarts == 1

    children.end(5)
    children.members.append(Child(Kind.PREFETCHER, 0, restart_at=time.monotonic() + 3600))
    child.quick_deaths = 4
    child.ready_at = None
    assert children.plan_restart(child)
    wait = children.restart_due()
    assert wait is not None
    assert 0 < wait <= pause_before_restart(5)
    assert child.pid is None


def test_a_child_with_another_plan_is_a_restart_too(life: Callable[[Callable[[], int]], Children]) -> None:
    """What its predecessor was asked for is gone: ``ossmount warm`` asks again when the count changes."""
    children = life(lambda: Status.STOPPED)
    children.add(Kind.PREFETCHER, 2)
    assert children.restarts == 0
    for count, start in ((2, children.renew), (4, children.return_to)):
        reap_all(children, 2)
        start(children.plan)
        assert children.restarts == count


def test_renewed_children_have_the_new_plan_and_no_past(
    life: Callable[[Callable[[], int]], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the old plan they would go on serving the old index."""
    children = life(sleep)
    monkeypatch.setattr(children_module, "run_child", lambda kind, number, plan: plan.ready)
    for number in range(2):
        children.members.append(Child(Kind.WORKER, number, quick_deaths=9, given_up=True))
    children.renew(replace(children.plan, ready=7))
    assert [death.status for death in reap_all(children, 2)] == [7, 7]
    assert {(child.quick_deaths, child.given_up) for child in children.members} == {(0, False)}


def test_who_lives_is_ended_before_it_gets_the_plan_that_is_returned_to(
    life: Callable[[Callable[[], int]], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    children = life(sleep)
    monkeypatch.setattr(
        children_module, "run_child", lambda kind, number, plan: sleep() if plan.ready == 1 else plan.ready
    )
    children.add(Kind.WORKER, 1)
    (living,) = children.alive()
    dead = Child(Kind.WORKER, 1, quick_deaths=9, given_up=True)
    children.members.append(dead)
    children.return_to(replace(children.plan, ready=8))
    statuses = {death.child.number: death.status for death in reap_all(children, 2)}
    assert statuses == {0: -signal.SIGTERM, 1: 8}
    assert (dead.quick_deaths, dead.given_up) == (0, False)
    children.start(living)
    assert [death.status for death in reap_all(children, 1)] == [8]


def test_a_child_that_lived_is_not_held_its_past(life: Callable[[Callable[[], int]], Children]) -> None:
    children = life(sleep)
    child = Child(Kind.WORKER, 0, ready_at=time.monotonic() - 60, quick_deaths=TOLERATED_QUICK_DEATHS)
    assert children.plan_restart(child)
    assert child.quick_deaths == 0


def test_too_many_deaths_at_once_are_enough(life: Callable[[Callable[[], int]], Children]) -> None:
    children = life(sleep)
    child = Child(Kind.WORKER, 0, ready_at=time.monotonic(), quick_deaths=TOLERATED_QUICK_DEATHS)
    assert not children.plan_restart(child)
    assert child.given_up
    assert replace(child, given_up=False).restart_at is None
    last = Child(Kind.WORKER, 0, quick_deaths=TOLERATED_QUICK_DEATHS - 1)
    assert children.plan_restart(last), "so many are tolerated"


def test_pauses_grow_to_a_limit() -> None:
    pauses = [pause_before_restart(deaths) for deaths in range(12)]
    assert pauses[:3] == [0.0, 0.0, children_module.FIRST_PAUSE]
    assert pauses == sorted(pauses)
    assert pauses[-1] == children_module.LONGEST_PAUSE


def refuse() -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_child_that_cannot_be_forked_is_an_error_with_a_remedy(
    life: Callable[[Callable[[], int]], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    children = life(sleep)
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(MountError, match=r"^no worker can be started: Resource .* or raise the limit"):
        children.add(Kind.WORKER, 2)
    assert children.alive() == []


def test_a_successor_that_cannot_be_forked_is_tried_again(
    life: Callable[[Callable[[], int]], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    children = life(sleep)
    children.add(Kind.WORKER, 1)
    children.send(signal.SIGKILL)
    (death,) = reap_all(children, 1)
    assert children.plan_restart(death.child)

    with monkeypatch.context() as short_of_processes:
        short_of_processes.setattr(os, "fork", refuse)
        wait = children.restart_due()
    assert wait is not None
    assert 0 < wait <= LONGEST_PAUSE
    assert (children.alive(), children.restarts) == ([], 0)
    death.child.restart_at = 0.0  # that time has come
    assert children.restart_due() is None
    assert (children.alive(), children.restarts) == ([death.child], 1)
