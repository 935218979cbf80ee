from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.testing

from ossmount.config import ReadaheadSettings
from ossmount.errors import DeadlineExceeded, ObjectChanged, StoreUnavailable
from ossmount.model import BlockId, Extent
from ossmount.readahead.fetcher import Fetcher
from ossmount.readahead.flight import KERNEL_ASKS
from ossmount.readahead.shelves import Shelves
from ossmount.readahead.window import SUB_BLOCK, blocks_of
from tests.support.executors import DictCache, ImmediateExecutor, ManualExecutor
from tests.support.memory_store import MemoryStore, fail_first, opener

SETTINGS = ReadaheadSettings(small_file=1000, block_size=256, part_size=1024, max_requests=4, max_bytes=8192)
Read = Callable[[], Awaitable[bytes]]
pytestmark = pytest.mark.trio


def store_of(**objects: bytes) -> MemoryStore:
    return MemoryStore("s3://b", objects)


def whole(store: MemoryStore, key: str) -> Extent:
    target = store.id_of(key)
    return Extent(target, 0, target.size)


def make(
    store: MemoryStore,
    executor: ManualExecutor | None = None,
    cache: DictCache | None = None,
    settings: ReadaheadSettings = SETTINGS,
) -> Fetcher:
    return Fetcher(opener(store), cache or DictCache(), settings, executor=executor or ImmediateExecutor())


async def settle() -> None:
    """Everything that can happen without another job has happened."""
    await trio.testing.wait_all_tasks_blocked()


class Results:
    """Starts reads in a nursery and keeps what each gave."""

    def __init__(self, nursery: trio.Nursery, fetcher: Fetcher) -> None:
        self._nursery, self._fetcher = nursery, fetcher
        self.values: dict[object, bytes | BaseException] = {}

    def start(self, name: object, extent: Extent, offset: int = 0, size: int = 1 << 30) -> trio.CancelScope:
        scope = trio.CancelScope()
        self._nursery.start_soon(self._run, name, scope, partial(self._fetcher.read, extent, offset, size))
        return scope

    async def _run(self, name: object, scope: trio.CancelScope, read: Read) -> None:
        with scope:
            try:
                self.values[name] = await read()
            except Exception as error:
                self.values[name] = error


async def test_a_small_file_is_one_get_whatever_part_is_read() -> None:
    store = store_of(a=bytes(range(200)))
    fetcher = make(store)
    extent = whole(store, "a")
    assert await fetcher.read(extent, 10, 5) == bytes(range(10, 15))
    assert await fetcher.read(extent, 190, 100) == bytes(range(190, 200))
    assert await fetcher.read(extent, 200, 10) == b""
    assert await fetcher.read(extent, 900, 10) == b""
    assert store.requests["GET"] == 1


async def test_an_inner_extent_is_read_from_its_place() -> None:
    store = store_of(shard=bytes(range(256)) * 20)
    inner = Extent(store.id_of("shard"), 300, 2000)
    fetcher = make(store)
    expected = (bytes(range(256)) * 20)[300:2300]
    assert await fetcher.read(inner, 0, 5000) == expected
    assert await fetcher.read(inner, 700, 31) == expected[700:731]


async def test_what_was_fetched_is_in_the_disk_cache_and_used_by_the_next_fetcher() -> None:
    store, cache = store_of(a=b"x" * 500, big=b"y" * 3000), DictCache()
    first = make(store, cache=cache)
    await first.read(whole(store, "a"), 0, 500)
    await first.read(whole(store, "big"), 100, 2000)
    requests = store.requests["GET"]
    second = make(store, cache=cache)
    assert await second.read(whole(store, "a"), 0, 500) == b"x" * 500
    assert await second.read(whole(store, "big"), 100, 2000) == b"y" * 2000
    assert store.requests["GET"] == requests
    assert second.statistics()["cache_hits"] == 1 + 9


@pytest.mark.parametrize("block_size", [4096, 100_000, SUB_BLOCK, 192 << 10, 1_000_000, 1 << 20])
async def test_blocks_of_any_size_give_the_right_bytes_out_of_the_disk_cache(block_size: int) -> None:
    data = random.Random(block_size).randbytes(2_500_000)
    settings = ReadaheadSettings(small_file=1000, block_size=block_size)
    store, cache = store_of(big=data), DictCache()
    big = whole(store, "big")
    await make(store, cache=cache, settings=settings).read(big, 0, len(data))
    requests = store.requests["GET"]
    fetcher = make(store, cache=cache, settings=settings)
    for offset in range(len(data) - 1, 0, -90_001):  # backwards: no read follows another
        for size in (2000, SUB_BLOCK):
            assert await fetcher.read(big, offset, size) == data[offset : offset + size]
    assert store.requests["GET"] == requests


async def test_readers_of_one_block_share_one_get() -> None:
    store, executor = store_of(a=b"x" * 500), ManualExecutor()
    fetcher = make(store, executor)
    async with trio.open_nursery() as nursery:
        results = Results(nursery, fetcher)
        for reader in range(20):
            results.start(reader, whole(store, "a"))
        await settle()
        assert executor.submitted == 1
        executor.run_all()
    assert set(results.values.values()) == {b"x" * 500}
    assert store.requests["GET"] == 1
    assert fetcher.statistics()["shared"] == 19


async def test_a_cancelled_reader_does_not_take_the_flight_with_it() -> None:
    store, executor = store_of(a=b"x" * 500), ManualExecutor()
    fetcher = make(store, executor)
    async with trio.open_nursery() as nursery:
        results = Results(nursery, fetcher)
        first = results.start("first", whole(store, "a"))
        await settle()
        results.start("second", whole(store, "a"))
        await settle()
        first.cancel()
        await settle()
        executor.run_all()
    assert results.values == {"second": b"x" * 500}
    assert store.requests["GET"] == 1


async def test_the_deadline_answers_a_reader_whose_store_does_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, executor = store_of(a=b"x" * 500), ManualExecutor()
    fetcher = make(store, executor)
    with pytest.raises(DeadlineExceeded, match="s3://b/a"):
        await fetcher.read(whole(store, "a"), 0, 10)
    assert SETTINGS.read_deadline / KERNEL_ASKS <= trio.current_time() < SETTINGS.read_deadline
    assert fetcher.statistics()["deadlines"] == 1
    executor.run_all()
    await settle()
    assert await fetcher.read(whole(store, "a"), 0, 10) == b"x" * 10


async def test_all_that_a_read_waits_for_shares_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    store, executor, shelves = store_of(big=b"x" * 4000), ManualExecutor(), Shelves(1, SETTINGS.block_size)
    settings = replace(SETTINGS, read_deadline=KERNEL_ASKS * 5.0)
    fetcher = Fetcher(opener(store), DictCache(), settings, executor=executor, shelves=shelves)
    big, shelf = whole(store, "big"), shelves.shelf(0)
    assert shelf is not None
    shelf.expect(blocks_of(big, 0, 256, 256))  # and never put there: waited for as long as ever

    async def land_one_now_and_then() -> None:
        while True:
            await trio.sleep(2)
            if executor.jobs:
                executor.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(land_one_now_and_then)
        began = trio.current_time()
        with pytest.raises(DeadlineExceeded):
            await fetcher.read(big, 0, 4000)  # four requests
        assert trio.current_time() - began == pytest.approx(5)
        nursery.cancel_scope.cancel()
    os.close(shelves._lock)


async def test_demand_overtakes_prefetch() -> None:
    store, executor = store_of(**{f"k{i}": bytes([i]) * 100 for i in range(20)}), ManualExecutor()
    fetcher = make(store, executor)
    blocks = [BlockId(store.id_of(f"k{i}"), 0, 100) for i in range(20)]
    assert fetcher.prefetch(blocks[:15]) == 15
    assert executor.submitted == 4
    async with trio.open_nursery() as nursery:
        results = Results(nursery, fetcher)
        results.start("queued", whole(store, "k14"))
        results.start("new", whole(store, "k19"))
        await settle()
        executor.run()
        await settle()
        executor.run()
        await settle()
        executor.run_all()
        await settle()
        executor.run_all()
        await settle()
        executor.run_all()
    keys = [key for _, key in store.log]
    assert max(keys.index("k14"), keys.index("k19")) < 6
    assert results.values == {"queued": bytes([14]) * 100, "new": bytes([19]) * 100}


async def test_prefetch_leaves_room_in_a_process_that_answers_programs() -> None:
    store, executor = store_of(**{f"k{i}": bytes([i]) * 100 for i in range(20)}), ManualExecutor()
    fetcher = make(store, executor)
    with trio.move_on_after(0):
        await fetcher.read(whole(store, "k0"), 0, 1)
    executor.run_all()
    await settle()
    fetcher.prefetch([BlockId(store.id_of(f"k{i}"), 0, 100) for i in range(1, 20)])
    assert len(executor.jobs) == 3


async def test_bytes_in_flight_are_bounded() -> None:
    settings = ReadaheadSettings(small_file=1000, max_requests=100, max_bytes=1000)
    store, executor = store_of(**{f"k{i}": b"x" * 400 for i in range(9)}), ManualExecutor()
    fetcher = make(store, executor, settings=settings)
    fetcher.prefetch([BlockId(store.id_of(f"k{i}"), 0, 400) for i in range(9)])
    most = 0
    while executor.jobs:
        most = max(most, fetcher.statistics()["bytes_in_flight"])
        executor.run()
        await settle()
    assert most == 800
    assert store.requests["GET"] == 9


async def test_a_changed_object_is_refused_and_its_old_bytes_are_not_mixed_in() -> None:
    store = store_of(big=b"1" * 3000)
    fetcher, old = make(store), whole(store, "big")
    assert await fetcher.read(old, 0, 256) == b"1" * 256
    store.put("big", b"2" * 3000)
    with pytest.raises(ObjectChanged):
        await fetcher.read(old, 0, 1024)
    assert await fetcher.read(old, 0, 256) == b"1" * 256
    assert await fetcher.read(whole(store, "big"), 0, 1024) == b"2" * 1024


async def test_a_failure_reaches_every_waiter_and_is_not_kept() -> None:
    store, executor = store_of(a=b"x" * 500), ManualExecutor()
    store.fault = fail_first(1, StoreUnavailable("s3://b: down"))
    fetcher = make(store, executor)
    async with trio.open_nursery() as nursery:
        results = Results(nursery, fetcher)
        results.start(1, whole(store, "a"))
        results.start(2, whole(store, "a"))
        await settle()
        executor.run_all()
    assert [type(value) for value in results.values.values()] == [StoreUnavailable] * 2
    async with trio.open_nursery() as nursery:
        again = Results(nursery, fetcher)
        again.start(3, whole(store, "a"))
        await settle()
        executor.run_all()
    assert again.values[3] == b"x" * 500


class Panic(BaseException):
    """What obstore and opendal raise where their Rust gives up: no ``Exception``."""


@pytest.mark.parametrize("foreign", [ValueError, Panic])
async def test_a_foreign_exception_becomes_ours_and_keeps_its_cause(foreign: type[BaseException]) -> None:
    store = store_of(a=b"x" * 500)
    store.fault = fail_first(1, foreign("client library"))
    fetcher = make(store)
    with pytest.raises(StoreUnavailable, match="client library") as caught:
        await fetcher.read(whole(store, "a"), 0, 1)
    assert isinstance(caught.value.__cause__, foreign)
    assert fetcher.statistics()["in_flight"] == 0


async def test_a_failed_prefetch_is_counted_and_harmless() -> None:
    store = store_of(a=b"x" * 500)
    store.fault = fail_first(1, StoreUnavailable("down"))
    fetcher = make(store)
    assert fetcher.prefetch([BlockId(store.id_of("a"), 0, 500)]) == 1
    await settle()
    assert fetcher.statistics()["errors"] == 1
    assert await fetcher.read(whole(store, "a"), 0, 500) == b"x" * 500


async def test_prefetched_blocks_arrive_and_make_the_read_free() -> None:
    store, arrived = store_of(a=b"x" * 500), []
    fetcher = make(store)
    fetcher.prefetch(
        [BlockId(store.id_of("a"), 0, 500)], lambda block, data: arrived.append((block.object.key, data))
    )
    await settle()
    assert arrived == [("a", b"x" * 500)]
    await fetcher.read(whole(store, "a"), 0, 500)
    assert store.requests["GET"] == 1


async def test_a_process_that_only_prefetches_keeps_nothing_in_memory() -> None:
    store = store_of(a=b"x" * 500)
    fetcher, block = make(store), BlockId(store.id_of("a"), 0, 500)
    fetcher.prefetch([block])
    await settle()
    assert fetcher.at_hand(block) is None
    await fetcher.read(whole(store, "a"), 0, 1)
    assert fetcher.at_hand(block) == b"x" * 500


async def test_pushing_comes_before_caching() -> None:
    store, cache = store_of(a=b"x" * 500), DictCache()
    seen: list[int] = []
    make(store, cache=cache).prefetch(
        [BlockId(store.id_of("a"), 0, 500)], lambda block, data: seen.append(len(cache.blocks))
    )
    await settle()
    assert (seen, len(cache.blocks)) == ([0], 1)


async def test_real_threads_read_the_right_bytes() -> None:
    objects = {f"k{i}": bytes([i]) * (100 + i) for i in range(60)}
    store = store_of(**objects)
    fetcher = Fetcher(opener(store), DictCache(), SETTINGS)
    async with trio.open_nursery() as nursery:
        results = Results(nursery, fetcher)
        for key in objects:
            results.start(key, whole(store, key))
            results.start(key + " again", whole(store, key))
    assert {name.removesuffix(" again"): data for name, data in results.values.items()} == objects
    assert store.requests["GET"] == 60
    fetcher.close()


async def test_throttling_that_was_repeated_away_still_lowers_the_limit(autojump_clock: object) -> None:
    store = store_of(**{f"k{i}": b"x" * 100 for i in range(300)})
    fetcher = make(store, settings=ReadaheadSettings(max_requests=64))
    await fetcher.read(whole(store, "k0"), 0, 10)
    before = fetcher.statistics()["limit"]
    fetcher.throttled()
    await fetcher.read(whole(store, "k1"), 0, 10)
    assert (before, fetcher.statistics()["throttled"]) == (64, 1)
    assert fetcher.statistics()["limit"] < 64
    lowered = fetcher.statistics()["limit"]
    for i in range(2, 5):
        await fetcher.read(whole(store, f"k{i}"), 0, 10)
    assert fetcher.statistics()["throttled"] == 1, "once told, it is told"
    assert fetcher.statistics()["limit"] >= lowered


async def test_a_read_of_more_joins_what_another_has_asked_for() -> None:
    data = random.Random(1).randbytes(4000)
    store, executor = store_of(big=data), ManualExecutor()
    fetcher, big = make(store, executor), whole(store, "big")
    async with trio.open_nursery() as nursery:
        results = Results(nursery, fetcher)
        results.start("first", big, 256, 512)
        await settle()
        results.start("second", big, 0, 1024)
        await settle()
        executor.run_all()
    assert results.values == {"first": data[256:768], "second": data[:1024]}
    assert fetcher.statistics()["bytes_fetched"] == 1024
