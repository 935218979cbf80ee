"""The two ways of a flight: which is taken when, and that nothing is lost between them."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from ossmount.cache.memory import MemoryCache, NullCache
from ossmount.config import ReadaheadSettings
from ossmount.errors import ObjectChanged
from ossmount.model import BlockId, Extent, ObjectId
from ossmount.protocols import BlockCache, Sink
from ossmount.readahead import delivery
from ossmount.readahead.delivery import LARGEST_TRANSFER, Delivery
from ossmount.readahead.fetcher import Fetcher
from ossmount.readahead.threads import Executor
from ossmount.readahead.window import blocks_of
from ossmount.stores.range_get import pour
from tests.support.executors import ImmediateExecutor, ManualExecutor, NearCache
from tests.support.memory_store import MemoryStore, opener

Arrived = Callable[[bytes | None], None]
PIECE = 333
pytestmark = pytest.mark.trio


class EventTransfers:
    """Transfers whose answers lie ready at the next ``work``; counts, and fails where it is told to."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.started = 0
        self.refusing = self.failing = self.closed = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK)
        self._waiting: list[tuple[ObjectId, int, int, Arrived, Sink | None]] = []

    def fileno(self) -> int:
        return self._event

    def start(
        self, target: ObjectId, start: int, length: int, arrived: Arrived, sink: Sink | None = None
    ) -> bool:
        if self.refusing:
            return False
        self.started += 1
        self._waiting.append((target, start, length, arrived, sink))
        os.eventfd_write(self._event, 1)
        return True

    def work(self) -> bool:
        waiting, self._waiting = self._waiting, []
        if waiting:
            os.eventfd_read(self._event)
        for target, start, length, arrived, sink in waiting:
            if self.failing and sink is None:
                arrived(None)
                continue
            body = self.store.get_range(target, start, length)
            if sink is not None:
                come = len(body) * 2 // 3 if self.failing else len(body)
                for i in range(0, come, PIECE):
                    pour(sink, body[i : min(i + PIECE, come)])
                body = b""
            arrived(None if self.failing else body)
        return bool(waiting)

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
async def running(
    transfers: EventTransfers,
    cache: BlockCache | None = None,
    settings: ReadaheadSettings | None = None,
    executor: Executor | None = None,
) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(
        opener(transfers.store),
        cache if cache is not None else NullCache(),
        settings or ReadaheadSettings(),
        executor=executor or ImmediateExecutor(),
        transfers=transfers,
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(fetcher.run)
            yield fetcher
            nursery.cancel_scope.cancel()


async def landed(fetcher: Fetcher) -> None:
    """Until nothing is under way."""
    while fetcher.statistics()["in_flight"]:
        await trio.lowlevel.checkpoint()


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
        assert fetcher.bring_near([block, block_of(store, "f8")]) == [True, False]
        assert fetcher.read_nowait(whole(store, "f7"), 0, 999) == SMALL["f7"]
        assert fetcher.at_hand(block) is None, "nobody will ask again"
        assert fetcher.read_nowait(whole(store, "f7"), 10, 20) == SMALL["f7"][10:30]
        assert fetcher.at_hand(block) == SMALL["f7"]  # for the rest of the file
        assert fetcher.read_nowait(whole(store, "f7"), 999, 20) is None, "behind the end"
        assert fetcher.read_nowait(whole(store, "f8"), 0, 999) is None
        assert [fetcher.caches(whole(store, key)) for key in ("f7", "f8")] == [True, False]
        assert (cache.gets, fetcher.statistics()["cache_hits"]) == (0, 2)
    assert (transfers.started, store.requests["GET"]) == (0, 0)


async def test_without_such_a_cache_all_are_missing(store: MemoryStore, transfers: EventTransfers) -> None:
    blocks = [block_of(store, key) for key in SMALL]
    async with running(transfers) as fetcher:
        assert not any(fetcher.bring_near(blocks))


async def test_a_cache_that_was_asked_is_not_asked_again(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    cache, block = NearCache(), block_of(store, "f7")
    cache.put(block, SMALL["f7"])
    async with running(transfers, cache) as fetcher:
        fetcher.queue([block], absent=True)
        fetcher.prefetch(())
        await landed(fetcher)
    assert (transfers.started, cache.gets) == (1, 0)


async def test_a_large_body_that_somebody_waits_for_takes_a_thread(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    store.put("large", bytes(range(256)) * (LARGEST_TRANSFER // 128))
    async with running(transfers) as fetcher:
        data = await fetcher.read(whole(store, "large"), 0, LARGEST_TRANSFER + 256)
    assert data == bytes(range(256)) * (LARGEST_TRANSFER // 256 + 1)
    assert (transfers.started, store.requests["GET"]) == (0, 1)


STREAM = ReadaheadSettings(block_size=1000, part_size=4000, max_bytes=20_000)


def stream_of(store: MemoryStore, length: int) -> tuple[bytes, list[BlockId]]:
    """A large object and its blocks."""
    data = random.Random(length).randbytes(length)
    store.put("stream", data)
    return data, list(blocks_of(whole(store, "stream"), 0, length, STREAM.block_size))


@pytest.mark.parametrize("failing", [False, True])
async def test_what_is_read_ahead_is_passed_on_in_blocks_each_once(
    store: MemoryStore, transfers: EventTransfers, failing: bool
) -> None:
    """Where the transfer breaks off, what it had not brought comes another way."""
    data, blocks = stream_of(store, 10_500)
    transfers.failing = failing
    cache, pushed = MemoryCache(1 << 20), list[tuple[BlockId, bytes]]()
    async with running(transfers, cache, STREAM) as fetcher:
        fetcher.prefetch(blocks, lambda block, part: pushed.append((block, bytes(part))))
        await landed(fetcher)
        counts = fetcher.statistics()
    assert transfers.started == 3
    assert store.requests["GET"] == (6 if failing else 3)
    assert sorted(block.offset for block, _ in pushed) == [block.offset for block in blocks]
    expected = {block: data[block.offset : block.offset + block.length] for block in blocks}
    assert dict(pushed) == expected
    assert all(cache.get(block) == part for block, part in expected.items())
    assert counts["bytes_fetched"] == 10_500


async def test_what_is_held_is_bounded(store: MemoryStore, transfers: EventTransfers) -> None:
    """However late the kernel and the disk take blocks: ``max_bytes``, and a part if nothing else is."""
    settings = replace(STREAM, block_size=mmap.PAGESIZE, part_size=4 * mmap.PAGESIZE, max_bytes=100_000)
    data = random.Random(1).randbytes(100 * mmap.PAGESIZE)
    store.put("stream", data)
    blocks = blocks_of(whole(store, "stream"), 0, len(data), mmap.PAGESIZE)
    executor, pushed, most = ManualExecutor(), dict[int, bytes](), 0
    async with running(transfers, MemoryCache(1 << 20), settings, executor) as fetcher:
        fetcher.prefetch(blocks, lambda block, part: pushed.__setitem__(block.offset, bytes(part)))
        while len(pushed) < len(blocks):
            for _ in range(40):  # whatever can be asked for and come has come
                fetcher._delivery.work()
                fetcher.prefetch(())
            most = max(most, fetcher._delivery.held)
            executor.run_all()
        assert fetcher._delivery.held == 0
    assert settings.max_bytes // 2 < most <= settings.max_bytes + settings.part_size
    assert b"".join(pushed[offset] for offset in sorted(pushed)) == data


async def test_small_files_that_wait_for_a_slow_disk_stop_the_fetching(
    store: MemoryStore, transfers: EventTransfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "WAITING_BYTES", 500)
    executor, blocks = ManualExecutor(), [block_of(store, key) for key in SMALL]
    rooms = list[int]()
    async with running(transfers, None, None, executor) as fetcher:
        for block in blocks:
            fetcher.queue([block])
            fetcher.prefetch(())
            await landed(fetcher)
            rooms.append(fetcher.room())
        assert [room > 0 for room in rooms] == [True] * 4 + [False] * 16
        told = trio.Event()
        fetcher.on_room = told.set
        executor.run_all()
        await told.wait()  # though nothing lands any more
        assert fetcher.room() > 0


async def test_a_read_above_all_limits_does_not_wait_for_a_slow_disk(
    store: MemoryStore, transfers: EventTransfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "WAITING_BYTES", 1)
    settings = ReadaheadSettings(max_bytes=50)
    async with running(transfers, None, settings, ManualExecutor()) as fetcher:
        for key in ("f1", "f2"):
            assert await fetcher.read(whole(store, key), 0, 999) == SMALL[key]
        assert fetcher.room() == 0


async def test_what_threads_bring_is_held_until_it_is_passed_on(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    _, blocks = stream_of(store, 10_000)
    transfers.refusing = True
    held = list[int]()
    async with running(transfers, None, STREAM) as fetcher:
        fetcher.prefetch(blocks, lambda block, part: held.append(fetcher._delivery.held))
        await landed(fetcher)
        assert (len(held), min(held), max(held)) == (10, 2000, 4000), "parts of 4, 4 and 2 blocks"
        assert fetcher._delivery.held == 0


async def test_a_reader_does_not_wait_for_what_is_passed_on_in_blocks(
    store: MemoryStore, transfers: EventTransfers
) -> None:
    data, blocks = stream_of(store, 8000)
    async with running(transfers, None, replace(STREAM, small_file=100)) as fetcher:
        fetcher.prefetch(blocks)
        assert await fetcher.read(whole(store, "stream"), 2500, 3000) == data[2500:5500]
        await landed(fetcher)
        assert fetcher.under_way(blocks[0]) is False
    assert store.requests["GET"] > 2


async def test_without_a_run_nobody_would_look_after_transfers(store: MemoryStore) -> None:
    transfers = EventTransfers(store)
    fetcher = Fetcher(
        opener(store), NullCache(), ReadaheadSettings(), executor=ImmediateExecutor(), transfers=transfers
    )
    assert await fetcher.read(whole(store, "f1"), 0, 999) == SMALL["f1"]
    fetcher.close()
    assert (transfers.started, transfers.closed) == (0, True)


async def test_reading_ahead_goes_on_when_all_has_come_and_gone_between_two_looks(
    store: MemoryStore, transfers: EventTransfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the way of more goes in a thread, which tells nobody."""
    monkeypatch.setattr(delivery, "WAITING_BYTES", 100)
    executor, left, done = ManualExecutor(), list(SMALL), trio.Event()
    async with running(transfers, executor=executor) as fetcher:

        def pump() -> None:
            fetcher.prefetch([block_of(store, left.pop()) for _ in range(min(5, len(left)))])
            if not left:
                done.set()

        fetcher.on_room = pump
        pump()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_work_off, executor)
            await done.wait()
            nursery.cancel_scope.cancel()
    assert transfers.started > 10


async def _work_off(executor: ManualExecutor) -> None:
    while True:
        executor.run_all()
        await trio.lowlevel.checkpoint()


async def test_what_rests_gives_back_what_its_threads_have_freed(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[bool] = []
    monkeypatch.setattr(delivery, "trim_heap", lambda: trimmed.append(True))
    executor = ManualExecutor()
    resting = Delivery(opener(store), NullCache(), ReadaheadSettings(), print, executor=executor)
    resting.rest()
    assert not trimmed  # it may take tens of milliseconds: not on the loop
    executor.run_all()
    assert trimmed
