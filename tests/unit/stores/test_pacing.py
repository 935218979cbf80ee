"""Caps that processes share: spacing, patience, and a holder that dies."""

from __future__ import annotations

import os
import signal
import time

from ossmount.model import ObjectId
from ossmount.stores.pacing import Pace, Paced
from tests.support.memory_store import MemoryStore


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def pace(rate: float) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(rate, clock.time, clock.sleep), clock


def test_turns_are_spaced_and_unused_time_is_not_saved() -> None:
    made, clock = pace(10)
    for _ in range(5):
        made.wait(1)
    assert abs(clock.now - 1000.4) < 1e-6
    clock.now += 100
    made.wait(1)
    made.wait(1)
    assert abs(clock.now - 1100.5) < 1e-6


def test_the_patient_one_lets_others_go_first() -> None:
    made, clock = pace(1)
    made.wait(5)
    order: list[str] = []

    def sleep(seconds: float) -> None:
        clock.now += seconds
        if not order:
            order.append("demand")
            made._turn(3, patient=False)

    made._sleep = sleep
    made.wait(1, patient=True)
    assert order == ["demand"]
    assert abs(clock.now - 1008) < 1e-6


def test_processes_share_the_pace_and_the_death_of_one_leaves_it_free() -> None:
    made = Pace(1.0)
    pid = os.fork()
    if pid == 0:
        made.wait(1000)
        os._exit(0)
    os.waitpid(pid, 0)
    pause = made._turn(0, patient=True)
    assert pause is not None
    assert 900 < pause <= 1000


def test_a_turn_of_a_living_process_leaves_the_pace_free() -> None:
    made = Pace(1000.0)
    made.wait(1)
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        made.wait(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_each_page_of_a_listing_is_a_request() -> None:
    requests, clock = pace(10)
    store = Paced(MemoryStore("s3://b", {"k": b""}), requests, None, patient=False)
    next(store.list(""))
    assert requests._turn(0, patient=True) is not None
    next(store.list(""))
    assert abs(clock.now - 1000.1) < 1e-6


def test_a_store_waits_for_requests_and_for_bytes() -> None:
    requests, clock = pace(10)
    bandwidth = Pace(100, clock.time, clock.sleep)
    inner = MemoryStore("s3://b", {"k": b"x" * 500})
    store = Paced(inner, requests, bandwidth, patient=False)
    target = ObjectId("s3://b", "k", inner.head("k").etag, 500)
    assert store.get_range(target, 0, 100) == b"x" * 100
    assert store.get_range(target, 100, 100) == b"x" * 100
    assert abs(clock.now - 1001) < 1e-6
    assert store.get_range(target, 0, 0) == b""
    assert store.head("k").size == 500
    assert [key for page in store.list("") for key in page.keys] == ["k"]
    assert (store.uri, clock.now > 1001) == ("s3://b", True)
    store.close()


def test_the_clock_is_the_machines() -> None:
    made = Pace(1e9)
    began = time.monotonic()
    made.wait(1)
    assert time.monotonic() - began < 5
