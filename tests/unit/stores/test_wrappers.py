"""Retry and counting around the in-memory store, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.errors import DeadlineExceeded, ObjectChanged, ObjectMissing, StoreUnavailable, Throttled
from ossmount.model import ListPage, ObjectId
from ossmount.stores.wrappers import FIRST_PAUSE, LONGEST_PAUSE, Backoff, Counting, Retrying
from tests.support.memory_store import MemoryStore


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Failing:
    """A fault that raises the given errors, one a request, and then no more."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self, verb: str, key: str) -> None:
        if self.errors:
            raise self.errors.pop(0)


def retrying(store: MemoryStore, clock: Clock, retries: int = 3, deadline: float = 60.0) -> Retrying:
    return Retrying(
        store, Backoff(retries, deadline, clock=clock, sleep=clock.sleep, uniform=lambda low, high: high)
    )


def target(store: MemoryStore, key: str = "x") -> ObjectId:
    info = store.head(key)
    return ObjectId(store.uri, key, info.etag, info.size)


def test_repeats_until_it_works() -> None:
    store, clock = MemoryStore("s3://b", {"x": b"data"}), Clock()
    wanted = target(store)
    store.fault = Failing(StoreUnavailable("1"), Throttled("2"), StoreUnavailable("3"))
    assert retrying(store, clock).get_range(wanted, 0, 4) == b"data"
    assert clock.pauses == [FIRST_PAUSE, FIRST_PAUSE * 5 * 2, FIRST_PAUSE * 4]


def test_gives_up_with_the_last_error() -> None:
    store, clock = MemoryStore("s3://b", {"x": b"data"}), Clock()
    store.fault = Failing(*(StoreUnavailable(str(i)) for i in range(9)))
    with pytest.raises(StoreUnavailable, match=r"^3$"):
        retrying(store, clock).head("x")
    assert len(clock.pauses) == 3


def test_without_retries_there_is_one_attempt() -> None:
    store, clock = MemoryStore("s3://b", {"x": b"data"}), Clock()
    store.fault = Failing(StoreUnavailable("once"))
    with pytest.raises(StoreUnavailable, match="once"):
        retrying(store, clock, retries=0).head("x")
    assert clock.pauses == []


@pytest.mark.parametrize("error", [ObjectMissing("gone"), ObjectChanged("new")])
def test_facts_are_not_repeated(error: Exception) -> None:
    store, clock = MemoryStore("s3://b", {"x": b"data"}), Clock()
    wanted = target(store)
    store.fault = Failing(error)
    with pytest.raises(type(error)):
        retrying(store, clock).get_range(wanted, 0, 1)
    assert clock.pauses == []


def test_deadline_is_kept() -> None:
    store, clock = MemoryStore("s3://b", {"x": b"data"}), Clock()
    store.fault = Failing(*(StoreUnavailable(f"no {i}") for i in range(99)))
    with pytest.raises(DeadlineExceeded, match="no answer within 1 s") as caught:
        retrying(store, clock, retries=50, deadline=1.0).head("x")
    assert sum(clock.pauses) <= 1.0
    assert isinstance(caught.value.__cause__, StoreUnavailable)


@given(attempt=st.integers(0, 1100), throttled=st.booleans())
def test_pauses_have_full_jitter_and_a_bound(attempt: int, throttled: bool) -> None:
    asked = []
    backoff = Backoff(uniform=lambda low, high: asked.append((low, high)) or low)
    assert backoff.pause(attempt, throttled) == 0.0
    ((low, high),) = asked
    assert low == 0.0
    assert FIRST_PAUSE <= high <= LONGEST_PAUSE


@pytest.mark.parametrize("delimiter", ["", "/"])
def test_listing_goes_on_behind_the_last_page(delimiter: str) -> None:
    names = [f"d{i}/x" for i in range(4)] + [f"k{i}" for i in range(4)]
    store, clock = MemoryStore("s3://b", dict.fromkeys(names, b"1"), page_size=2), Clock()
    whole = [(page.keys, page.prefixes) for page in store.list("", "", delimiter)]
    pages: Iterator[ListPage] = retrying(store, clock).list("", "", delimiter)
    got = []
    for page in pages:
        got += [*page.keys, *page.prefixes]
        store.fault = Failing(StoreUnavailable("broken off"))
    assert sorted(got) == sorted(name for keys, prefixes in whole for name in (*keys, *prefixes))
    assert clock.pauses


def test_counting() -> None:
    store = MemoryStore("s3://b", dict.fromkeys("abc", b"1234"), page_size=2)
    ticks = iter(range(1000))
    counting = Counting(store, clock=lambda: next(ticks))
    wanted = ObjectId("s3://b", "a", counting.head("a").etag, 4)
    assert counting.get_range(wanted, 1, 2) == b"23"
    assert counting.get_range(wanted, 1, 0) == b""
    with pytest.raises(ObjectMissing):
        counting.get_range(wanted._replace(key="z"), 0, 1)
    assert len(list(counting.list(""))) == 2
    assert counting.statistics() == {
        "get_requests": 2, "get_errors": 1, "get_bytes": 2, "get_seconds": 2,
        "head_requests": 1, "head_errors": 0, "head_bytes": 0, "head_seconds": 1,
        "list_requests": 2, "list_errors": 0, "list_bytes": 0, "list_seconds": 2,
    }  # fmt: skip


def test_counting_loses_nothing_between_threads() -> None:
    store = MemoryStore("s3://b", {"x": b"data"})
    counting = Counting(store)
    wanted = target(store)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: counting.get_range(wanted, 0, 3), range(2000)))
    statistics = counting.statistics()
    assert (statistics["get_requests"], statistics["get_bytes"]) == (2000, 6000)


def test_wrappers_close_what_is_inside() -> None:
    store = MemoryStore("s3://b")
    wrapped = Retrying(Counting(store), Backoff())
    assert wrapped.uri == "s3://b"
    wrapped.close()
    assert store.closed


def test_a_store_that_slows_down_is_told_of_though_the_call_succeeds() -> None:
    store, clock, told = MemoryStore("s3://b", {"x": b"data"}), Clock(), list[int]()
    key = target(store)
    store.fault = Failing(StoreUnavailable("1"), Throttled("2"))
    backoff = Backoff(retries=3, deadline=60.0, clock=clock, sleep=clock.sleep)
    assert Retrying(store, backoff, lambda: told.append(1)).get_range(key, 0, 4) == b"data"
    assert told == [1]


def test_nor_is_it_kept_quiet_by_a_request_that_another_sent() -> None:
    told: list[str] = []
    wrapped = Retrying(MemoryStore("s3://b", {}), Backoff(), lambda: told.append("slow down"))
    wrapped.sent(10, 0.1, failed=True, throttled=True)
    wrapped.sent(10, 0.1, failed=False)
    assert told == ["slow down"]
