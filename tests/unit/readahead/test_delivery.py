"""The two ways of a flight: which is taken when, and that nothing is lost between them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from ossmount.cache.memory import MemoryCache, NullCache
from ossmount.config import ReadaheadSettings
from ossmount.errors import ObjectChanged
from ossmount.model import BlockId, Extent, ObjectId
from ossmount.protocols import BlockCache
from ossmount.readahead.delivery import LARGEST_TRANSFER
from ossmount.readahead.fetcher import Fetcher
from tests.support.executors import ImmediateExecutor, NearCache
from tests.support.memory_store import MemoryStore, opener

Arrived = Callable[[bytes | None], None]
pytestmark = pytest.mark.trio


class EventTransfers:
    """Transfers whose answers lie ready at the next ``work``; counts, and fails where it is told to."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.started = 0
        self.refusing = self.failing = self.closed = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK)
        self._waiting: list[tuple[ObjectId, int, int, Arrived]] = []

    def fileno(self) -> int:
        return self._event

    def start(self, target: ObjectId, start: int, length: int, arrived: Arrived) -> bool:
        if self.refusing:
            return False
        self.started += 1
        self._waiting.append((target, start, length, arrived))
        os.eventfd_write(self._event, 1)
        return True

    def work(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            os.eventfd_read(self._event)
        for target, start, length, arrived in waiting:
            arrived(None if self.failing else self.store.get_range(target, start, length))

    def close(self) -> None:
        self.closed = True
        os.close(self._event)


SMALL = {f"f{i}": bytes([i]) * (100 + i) for i in range(20)}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("s3://b", SMALL)


@pytest.fixture
def transfers(store: MemoryStore) -> Iterator[EventTransfers]:
    made = EventTransfers(store)
    yield made
    assert made.closed, "who runs a fetcher closes its transfers"


@asynccontextmanager
async def running(transfers: EventTransfers, cache: BlockCache | None = None) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(
        opener(transfers.store),
        cache if cache is not None else NullCache(),
        ReadaheadSettings(),
        executor=ImmediateExecutor(),
        transfers=transfers,
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(fetcher.run)
            yield fetcher
            nursery.cancel_scope.cancel()


def whole(store: MemoryStore, key: str) -> Extent:
    target = store.id_of(key)
    return Extent(target, 0, target.size)


def block_of(store: MemoryStore, key: str) -> BlockId:
    target = store.id_of(key)
    return BlockId(target, 0, target.size)


async def test_a_read_comes_without_a_thread(store: MemoryStore, transfers: EventTransfers) -> None:
    async with running(transfers) as fetcher:
        assert await fetcher.read(whole(store, "f3"), 1, 5) == SMALL["f3"][1:6]
        counts = fetcher.statistics()
    assert (transfers.started, store.requests["GET"]) == (1, 1)
    assert (counts["requests"], counts["bytes_fetched"], counts["in_flight"]) == (1, 103, 0)


async def test_what_arrives_is_pushed_and_kept(store: MemoryStore, transfers: EventTransfers) -> None:
    cache, pushed = MemoryCache(1 << 20), {}
    done = trio.Event()

    def settled(blocks: object, offered: bool) -> None:
        assert offered
        if len(pushed) == len(SMALL):
            done.set()

    async with running(transfers, cache) as fetcher:
        for key in SMALL:
            block = block_of(store, key)
            fetcher.queue([block], lambda block, data: pushed.__setitem__(block, data), settled=settled)
        assert transfers.started == 0, "queued only"
        fetcher.prefetch(())
        await done.wait()
    assert transfers.started == len(SMALL)
    assert pushed == {block_of(store, key): data for key, data in SMALL.items()}
    assert all(cache.get(block) == data for block, data in pushed.items())


async def test_a_failed_transfer_is_repeated_in_a_thread(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    transfers.failing = True
    async with running(transfers) as fetcher:
        assert await fetcher.read(whole(store, "f1"), 0, 999) == SMALL["f1"]
        target = whole(store, "f2")
        store.put("f2", b"another version")
        with pytest.raises(ObjectChanged):
            await fetcher.read(target, 0, 9)
        assert fetcher.statistics()["in_flight"] == 0
    assert transfers.started == 2


async def test_what_the_transfers_decline_takes_a_thread(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    transfers.refusing = True
    async with running(transfers) as fetcher:
        assert await fetcher.read(whole(store, "f1"), 0, 999) == SMALL["f1"]
    assert (transfers.started, store.requests["GET"]) == (0, 1)


async def test_what_the_cache_has_takes_a_thread_and_no_request(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    cache = MemoryCache(1 << 20)
    cache.put(block_of(store, "f7"), SMALL["f7"])
    async with running(transfers, cache) as fetcher:
        assert await fetcher.read(whole(store, "f7"), 0, 999) == SMALL["f7"]
    assert (transfers.started, store.requests["GET"]) == (0, 0)


async def test_what_the_cache_has_in_memory_needs_neither(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    cache, block = NearCache(), block_of(store, "f7")
    cache.put(block, SMALL["f7"])
    async with running(transfers, cache) as fetcher:
        assert fetcher.bring_near([block, block_of(store, "f8")]) == [block_of(store, "f8")]
        assert await fetcher.read(whole(store, "f7"), 10, 20) == SMALL["f7"][10:30]
        assert fetcher.at_hand(block) == SMALL["f7"]  # for the rest of the file
        assert (cache.gets, fetcher.statistics()["cache_hits"]) == (0, 1)
    assert (transfers.started, store.requests["GET"]) == (0, 0)


async def test_without_such_a_cache_all_are_missing(store: MemoryStore, transfers: EventTransfers) -> None:
    blocks = [block_of(store, key) for key in SMALL]
    async with running(transfers) as fetcher:
        assert fetcher.bring_near(blocks) == blocks


async def test_a_cache_that_was_asked_is_not_asked_again(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    cache, block = NearCache(), block_of(store, "f7")
    cache.put(block, SMALL["f7"])
    async with running(transfers, cache) as fetcher:
        fetcher.queue([block], absent=True)
        fetcher.prefetch(())
        while fetcher.statistics()["in_flight"]:
            await trio.lowlevel.checkpoint()
    assert (transfers.started, cache.gets) == (1, 0)


async def test_a_large_body_takes_a_thread(store: MemoryStore, transfers: EventTransfers) -> None:
    data = bytes(range(256)) * (LARGEST_TRANSFER // 256 + 1)
    store.put("large", data)
    target = store.id_of("large")
    async with running(transfers) as fetcher:
        fetcher.prefetch([BlockId(target, 0, LARGEST_TRANSFER), BlockId(target, LARGEST_TRANSFER, 256)])
        while fetcher.statistics()["in_flight"]:
            await trio.lowlevel.checkpoint()
    assert (transfers.started, store.requests["GET"]) == (0, 1)


async def test_without_a_run_nobody_would_look_after_transfers(store: MemoryStore) -> None:
    transfers = EventTransfers(store)
    fetcher = Fetcher(
        opener(store), NullCache(), ReadaheadSettings(), executor=ImmediateExecutor(), transfers=transfers
    )
    assert await fetcher.read(whole(store, "f1"), 0, 999) == SMALL["f1"]
    fetcher.close()
    assert (transfers.started, transfers.closed) == (0, True)
