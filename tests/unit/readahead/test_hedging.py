from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from ossmount.config import ReadaheadSettings
from ossmount.errors import ObjectChanged, StoreError, StoreUnavailable
from ossmount.model import BlockId, Extent
from ossmount.readahead import Fetcher
from ossmount.readahead.concurrency import ConcurrencyLimit
from ossmount.readahead.hedging import ENOUGH, EXTRA, SAVED, SORT_EVERY, HedgePolicy
from tests.support.executors import DictCache, ManualExecutor
from tests.support.memory_store import MemoryStore, fail_first, opener


def test_nothing_is_slow_before_enough_is_known() -> None:
    policy = HedgePolicy()
    for _ in range(ENOUGH - 1):
        policy.finished(1000, 0.02)
    assert policy.slow_after(1000) is None
    policy.finished(1000, 0.02)
    assert policy.slow_after(1000) == 0.02
    assert policy.slow_after(8 << 20) is None


def test_slow_is_the_95th_percentile_of_late() -> None:
    policy = HedgePolicy()
    for _ in range(20):
        for i in random.Random(1).sample(range(100), 100):
            policy.finished(1000, i / 1000)
    slow = policy.slow_after(1000)
    assert slow is not None
    assert 0.09 <= slow <= 0.099


def test_slow_follows_a_store_that_has_become_slower() -> None:
    policy = HedgePolicy()
    for seconds in (0.02, 0.5):
        for _ in range(ENOUGH + SORT_EVERY):
            policy.finished(1000, seconds)
        assert policy.slow_after(1000) == seconds


def test_at_most_one_in_twenty_is_hedged_but_for_what_was_saved() -> None:
    policy, spent = HedgePolicy(), 0
    for _ in range(1000):
        policy.finished(1000, 0.02)
        spent += policy.spend()
    assert spent <= 1000 * EXTRA
    for _ in range(1000):
        policy.finished(1000, 0.02)
    assert sum(policy.spend() for _ in range(100)) <= SAVED


class World:
    """A fetcher with a history of quick requests, whose requests now wait for the test."""

    def __init__(self) -> None:
        self.store = MemoryStore("s3://b", {f"k{i}": bytes([i]) * 100 for i in range(100)})
        self.executor = ManualExecutor()
        self.fetcher = Fetcher(opener(self.store), DictCache(), ReadaheadSettings(), executor=self.executor)
        self.results: list[bytes | Exception] = []

    async def practise(self) -> None:
        for i in range(99):
            self.fetcher.prefetch([BlockId(self.store.id_of(f"k{i}"), 0, 100)])
            await trio.sleep(0.001)
            self.executor.run_all()
            await trio.lowlevel.checkpoint()
        await trio.sleep(0.02)

    async def read(self) -> None:
        try:
            self.results.append(await self.fetcher.read(Extent(self.store.id_of("k99"), 0, 100), 0, 100))
        except StoreError as error:
            self.results.append(error)


@asynccontextmanager
async def practised() -> AsyncIterator[tuple[World, trio.Nursery]]:
    """A world whose fetcher knows how quick its store is, and where reads are started; it ends with it."""
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.fetcher.run)
        await world.practise()
        yield world, nursery
        nursery.cancel_scope.cancel()


@pytest.mark.trio
@pytest.mark.parametrize(("first", "won"), [(1, 1), (0, 0)], ids=["the second request", "the slow one"])
async def test_a_slow_request_is_asked_again_and_the_first_answer_counts(
    autojump_clock: trio.testing.MockClock, first: int, won: int
) -> None:
    """Only where the second request was the one that answered first, anything was gained."""
    async with practised() as (world, nursery):
        nursery.start_soon(world.read)
        await trio.sleep(0.1)
        assert len(world.executor.jobs) == 2
        world.executor.run(first)
        await trio.sleep(0.01)
        assert world.results == [bytes([99]) * 100]
        world.executor.run_all()
        await trio.sleep(0.01)
    counted = world.fetcher.statistics()
    assert (counted["hedges"], counted["hedges_won"], counted["in_flight"]) == (1, won, 0)
    assert world.executor.closed


@pytest.mark.trio
@pytest.mark.parametrize("spent", [True, False])
async def test_nothing_is_asked_again_beyond_the_hedges_or_the_requests_allowed(
    autojump_clock: trio.testing.MockClock, spent: bool
) -> None:
    async with practised() as (world, nursery):
        while spent and world.fetcher._policy.spend():
            pass
        if not spent:
            world.fetcher._limit = ConcurrencyLimit(1)
        nursery.start_soon(world.read)
        await trio.sleep(0.1)
        assert len(world.executor.jobs) == 1
        world.executor.run_all()
        await trio.sleep(0.01)
    assert world.results == [bytes([99]) * 100]
    assert world.fetcher.statistics()["hedges"] == 0


@pytest.mark.trio
async def test_a_failed_attempt_waits_for_the_other_one(autojump_clock: trio.testing.MockClock) -> None:
    async with practised() as (world, nursery):
        nursery.start_soon(world.read)
        await trio.sleep(0.1)
        world.store.fault = fail_first(1, StoreUnavailable("down"))
        world.executor.run()
        await trio.sleep(0.01)
        assert world.results == []
        world.executor.run()
        await trio.sleep(0.01)
    assert world.results == [bytes([99]) * 100]


@pytest.mark.trio
async def test_a_changed_object_does_not_wait_for_the_other_attempt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with practised() as (world, nursery):
        nursery.start_soon(world.read)
        await trio.sleep(0.1)
        world.store.put("k99", b"new")
        world.executor.run()
        await trio.sleep(0.01)
        assert [type(result) for result in world.results] == [ObjectChanged]
        world.executor.run_all()
        await trio.sleep(0.01)
