from __future__ import annotations

import os
import random
import threading
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
import trio
import trio.testing

from ossmount.config import ReadaheadSettings
from ossmount.errors import AccessDenied, NoSuchEntry, ObjectMissing
from ossmount.model import BlockId, Entry, Extent, FileRef
from ossmount.readahead import DatasetPlanner, Fetcher, Observer, Prefetcher, observation_pipe
from ossmount.readahead.messages import looked_up_frame, opened_frame, read_frame
from ossmount.readahead.prefetcher import LONG_NAP_SECONDS, NAP_SECONDS
from ossmount.readahead.shelves import Shelves
from tests.support.executors import DictCache, ImmediateExecutor, ManualExecutor, NearCache
from tests.support.memory_index import MemoryIndex
from tests.support.memory_store import MemoryStore, fail_first, opener
from tests.support.prefetching import World

pytestmark = pytest.mark.trio


async def test_an_observed_epoch_ends_up_in_cache_and_kernel() -> None:
    world = World(ImmediateExecutor())
    reading, writing = observation_pipe()
    observer = Observer(writing)
    order = random.Random(3).sample(world.inos, len(world.inos))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.prefetcher.run, reading)
        for ino in order[:60]:
            observer.opened(ino)
            observer.read(ino, 0, 100)
        os.close(writing)
    await trio.testing.wait_all_tasks_blocked()
    os.close(reading)
    assert set(world.kernel.pages) | set(order[:60]) == set(world.inos)
    assert all(data == world.bytes_of(ino) for ino, data in world.kernel.pages.items())
    assert len(world.cache.blocks) == len(world.kernel.pages)
    assert world.prefetcher.statistics()["observed"] == 120


async def test_what_is_planned_is_introduced_and_again_where_the_kernel_refuses_it() -> None:
    world = World(ImmediateExecutor())
    world.kernel.unknown = frozenset(world.inos)
    world.planner.know(world.inos)
    world.prefetcher.take_in(b"")
    await trio.testing.wait_all_tasks_blocked()
    directories = {world.index.parent(ino) for ino in world.inos}
    assert {directory for directory, _ in world.introduced} == directories
    assert set(Counter(world.introduced).values()) == {2}
    assert world.prefetcher.statistics()["introduced"] == len(world.introduced)
    assert world.prefetcher.statistics()["push_refused"] == len(world.inos)


async def test_a_name_that_the_kernel_asks_for_is_introduced_with_its_neighbours() -> None:
    world = World(ImmediateExecutor())
    world.prefetcher.take_in(looked_up_frame(world.inos[0]) + looked_up_frame(world.inos[1]))
    assert world.introduced == [(world.index.parent(world.inos[0]), 0)]
    world.prefetcher.take_in(looked_up_frame(10**9))
    assert world.prefetcher.statistics()["observed"] == 3


async def test_what_the_disk_cache_has_is_brought_near_and_takes_no_room() -> None:
    executor, cache = ManualExecutor(), NearCache()
    world = World(executor, cache=cache)
    blocks = {ino: BlockId(world.index.extent(ino).object, 0, 100) for ino in world.inos}
    cached = world.inos[:150]
    cache.blocks.update((blocks[ino], world.bytes_of(ino)) for ino in cached)
    world.planner.know(world.inos)
    world.prefetcher.take_in(b"")
    waits = world.arrivals.waits_of(0, 1000)
    assert all(waits.wait_for(ino, 100) is None for ino in cached[:100])  # nobody will push them
    while executor.jobs:
        executor.run()
        await trio.testing.wait_all_tasks_blocked()
    assert cache.near == {blocks[ino] for ino in cached}
    assert len(world.store.log) == len(world.inos) - len(cached)
    assert set(world.kernel.pages) == set(world.inos[150:])
    assert world.fetcher.read_nowait(world.index.extent(cached[0]), 0, 100) == world.bytes_of(cached[0])
    assert not executor.jobs
    assert world.fetcher.statistics()["cache_hits"] == 1


async def test_files_planned_anew_that_the_disk_cache_has_count_as_opened_before() -> None:
    """Else the kernel would be told never, or late, to open files without asking."""
    cache = NearCache()
    world = World(ImmediateExecutor(), cache=cache)
    waits = world.arrivals.waits_of(0, 1000)
    order = random.Random(3).sample(world.inos, len(world.inos))

    async def epoch(lost: int) -> None:
        for number, ino in enumerate(order):
            waits.wait_for(ino, 100)
            frames = opened_frame(ino) + (read_frame(ino) if number < lost else b"")
            world.prefetcher.take_in(frames)
            await trio.testing.wait_all_tasks_blocked()

    await epoch(0)
    cache.blocks.update((world.index.extent(ino).block, world.bytes_of(ino)) for ino in order)  # READs did
    assert not cache.near
    await epoch(50)
    assert len(cache.near) > len(order) / 2, "planned anew"
    assert all(world.arrivals.reopens(ino) for ino in order)


@pytest.mark.parametrize(("opens", "nap"), [(0, NAP_SECONDS), (60, LONG_NAP_SECONDS)])
async def test_it_naps_longer_when_all_is_planned(
    opens: int, nap: float, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(ImmediateExecutor())
    reading, writing = observation_pipe()
    order = random.Random(3).sample(world.inos, len(world.inos))

    async def heard_after(seconds: float) -> int:
        await trio.sleep(seconds)
        return world.prefetcher.statistics()["observed"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.prefetcher.run, reading)
        for ino in order[:opens]:
            os.write(writing, opened_frame(ino))
        assert await heard_after(1) == opens
        os.write(writing, opened_frame(order[-1]))
        assert await heard_after(nap / 4) == opens + 1
        os.write(writing, opened_frame(order[-2]))
        assert await heard_after(nap / 2) == opens + 1
        assert await heard_after(nap / 2) == opens + 2
        os.close(writing)
    os.close(reading)


async def test_it_rests_when_all_is_planned_and_wakes_when_pages_are_gone() -> None:
    executor = ManualExecutor()
    world = World(executor)
    order = random.Random(3).sample(world.inos, len(world.inos))
    world.prefetcher.take_in(b"".join(opened_frame(ino) + read_frame(ino, 0, 100) for ino in order[:60]))
    assert not world.attention.rests
    while executor.jobs:
        executor.run()
        await trio.testing.wait_all_tasks_blocked()
    assert world.attention.rests
    world.prefetcher.take_in(b"".join(map(opened_frame, order[60:])))
    assert world.attention.rests
    world.prefetcher.take_in(b"".join(opened_frame(ino) + read_frame(ino, 0, 100) for ino in order[:16]))
    assert not world.attention.rests


async def test_one_that_takes_the_place_of_another_hears_everything() -> None:
    world = World(ImmediateExecutor())
    world.attention.pay(0, now=False)
    reading, writing = observation_pipe()
    os.close(writing)
    await world.prefetcher.run(reading)
    os.close(reading)
    assert not world.attention.rests


async def test_a_known_order_is_fetched_in_that_order_as_room_comes() -> None:
    executor = ManualExecutor()
    world = World(executor)
    reading, writing = observation_pipe()
    order = world.inos[::-1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.prefetcher.run, reading)
        Observer(writing).know(order)
        os.close(writing)
        await trio.testing.wait_all_tasks_blocked()
        assert len(executor.jobs) == 8
        while executor.jobs:
            executor.run()
            await trio.testing.wait_all_tasks_blocked()
    os.close(reading)
    assert [key for _, key in world.store.log] == [world.index.paths[ino].decode() for ino in order]


async def test_a_file_that_an_open_waits_for_is_fetched_next() -> None:
    executor = ManualExecutor()
    world = World(executor)
    waits = world.arrivals.waits_of(0, 1000)
    world.planner.know(world.inos)
    world.prefetcher.take_in(b"")
    assert len(executor.jobs) == 8  # as many as may be under way
    last = world.inos[-1]
    assert waits.wait_for(last, 100) is not None
    assert waits.wait_for(world.inos[0], 100) is not None
    world.prefetcher.take_in(opened_frame(last) + opened_frame(world.inos[0]))
    executor.run()
    await trio.testing.wait_all_tasks_blocked()
    while executor.jobs:
        executor.run()
        await trio.testing.wait_all_tasks_blocked()
    asked = [key for _, key in world.store.log]
    assert asked.index(world.index.paths[last].decode()) < 10
    assert len(asked) == len(set(asked)) == len(world.inos)
    assert world.arrivals.has_come(last)
    assert last in world.kernel.pages


async def test_an_open_goes_on_where_what_it_waits_for_cannot_be_fetched() -> None:
    world = World(ImmediateExecutor())
    waits = world.arrivals.waits_of(0, 1000)
    world.planner.know(world.inos[:3])
    world.prefetcher.take_in(b"")
    world.arrivals.cover(0, True)
    world.store.fault = fail_first(10**9, AccessDenied("no"))
    wanted = world.inos[-1]
    assert waits.wait_for(wanted, 100) is not None
    world.prefetcher.take_in(opened_frame(wanted))
    await trio.testing.wait_all_tasks_blocked()
    assert world.arrivals.has_come(wanted)
    assert wanted not in world.kernel.pages


async def test_opens_go_on_where_what_was_planned_cannot_be_fetched() -> None:
    world = World(ImmediateExecutor())
    world.store.fault = fail_first(10**9, ObjectMissing("gone"))
    world.planner.know(world.inos)
    world.prefetcher.take_in(b"")
    await trio.testing.wait_all_tasks_blocked()
    assert world.fetcher.statistics()["errors"] == len(world.inos)
    assert all(map(world.arrivals.has_come, world.inos))


async def test_what_one_that_died_had_promised_is_fetched_when_it_is_opened() -> None:
    world = World(ImmediateExecutor())
    waits = world.arrivals.waits_of(0, 1000)
    promised = world.inos[7]
    world.arrivals.expect(promised)
    assert waits.wait_for(promised, 100) is not None
    world.prefetcher.take_in(opened_frame(promised))
    await trio.testing.wait_all_tasks_blocked()
    assert world.kernel.pages == {promised: world.bytes_of(promised)}
    assert world.arrivals.has_come(promised)


async def test_what_has_come_and_waits_to_be_pushed_is_not_fetched_again() -> None:
    world = World(ImmediateExecutor())
    world.planner.know(world.inos[:5])
    world.prefetcher.take_in(b"")
    await trio.testing.wait_all_tasks_blocked()
    world.arrivals.expect(world.inos[3])  # as long as its push has not been made
    world.prefetcher.take_in(opened_frame(world.inos[3]))
    await trio.testing.wait_all_tasks_blocked()
    assert world.store.requests["GET"] == 5


async def test_pushes_that_the_kernel_refuses_and_inodes_that_do_not_exist_are_harmless() -> None:
    world = World(ImmediateExecutor())
    world.kernel.unknown = frozenset(world.inos[:10])
    reading, writing = observation_pipe()
    observer = Observer(writing)
    observer.opened(10**9)
    observer.listed(10**9)
    observer.know([*world.inos, 10**9])
    os.write(writing, b"damaged")
    os.close(writing)
    await world.prefetcher.run(reading)
    await trio.testing.wait_all_tasks_blocked()
    os.close(reading)
    assert set(world.kernel.pages) == set(world.inos[10:])
    assert world.prefetcher.statistics()["push_refused"] == 10


async def test_a_plan_that_the_index_refuses_is_a_plan_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(ino: int, after: int = 0) -> Iterator[Sequence[FileRef]]:
        yield from ()
        raise NoSuchEntry(f"inode {after} is not below inode {ino}")

    world = World(ImmediateExecutor())
    monkeypatch.setattr(world.index, "files", refusing)
    world.prefetcher.take_in(b"".join(map(opened_frame, world.inos[:40])))
    world.planner.know(world.inos)
    world.prefetcher.take_in(b"")
    await trio.testing.wait_all_tasks_blocked()
    assert set(world.kernel.pages) == set(world.inos[40:])


async def test_without_push_files_go_to_the_cache_only() -> None:
    world = World(ImmediateExecutor(), ReadaheadSettings(max_requests=8, push=False))
    world.planner.know(world.inos)
    world.prefetcher.take_in(b"")
    await trio.testing.wait_all_tasks_blocked()
    assert world.kernel.pages == {}
    assert len(world.cache.blocks) == len(world.inos)


async def test_what_is_left_out_as_a_whole_is_not_pushed() -> None:
    settings = ReadaheadSettings(small_file=1 << 16, block_size=1 << 16, part_size=1 << 19)
    data = random.Random(1).randbytes(settings.part_size + 100)
    store, pushed = MemoryStore("s3://b", {"big": data}), list[tuple[int, int]]()
    extent = Extent(store.id_of("big"), 0, len(data))
    index, shelves = MemoryIndex([Entry(b"big", extent, None, 0)]), Shelves(2, settings.block_size)

    def push(ino: int, offset: int, part: bytes) -> bool:
        pushed.append((offset, len(part)))
        return True

    for number in range(2):
        fetcher = Fetcher(opener(store), DictCache(), settings, executor=ImmediateExecutor())
        planner, pages = DatasetPlanner(index, settings), shelves.pages(number)
        subject = Prefetcher(index, fetcher, planner, push, settings=settings, share=(number, 2), pages=pages)
        for offset in range(0, settings.part_size, 1 << 16):
            subject.take_in(read_frame(index.ino(b"big"), offset, 1 << 16))
    await trio.testing.wait_all_tasks_blocked()
    assert await shelves.read(extent, settings.part_size, 100) == data[-100:]
    assert pushed
    assert all(offset + length <= settings.part_size and length for offset, length in pushed)
    os.close(shelves._lock)


@pytest.mark.parametrize("prefetchers", [1, 2, 3])
async def test_a_large_file_is_pushed_ahead_of_its_reader_but_for_the_tripwires(prefetchers: int) -> None:
    """Every page once at most, whoever pushes it, and each prefetcher its share."""
    data = array("I", range(1 << 20)).tobytes()
    settings = ReadaheadSettings(small_file=1 << 16, block_size=1 << 16, part_size=1 << 19)
    store, pushed = MemoryStore("s3://b", {"big": data}), dict[int, int]()
    extent = Extent(store.id_of("big"), 0, len(data))
    index = MemoryIndex([Entry(b"big", extent, None, 0)])
    shelves = Shelves(prefetchers, settings.block_size)
    lock = threading.Lock()

    def push(number: int, ino: int, offset: int, part: bytes) -> bool:
        with lock:
            assert data[offset : offset + len(part)] == part
            pages = dict.fromkeys(range(offset // 4096, (offset + len(part)) // 4096), number)
            assert not pages.keys() & pushed.keys()
            pushed.update(pages)
        return True

    def one(number: int) -> Prefetcher:
        fetcher = Fetcher(opener(store), DictCache(), settings, executor=ImmediateExecutor())
        share = (number, prefetchers)
        planner = DatasetPlanner(index, settings, share=share)
        return Prefetcher(
            index,
            fetcher,
            planner,
            partial(push, number),
            settings=settings,
            share=share,
            pages=shelves.pages(number),
        )

    ino, subjects = index.ino(b"big"), [one(number) for number in range(prefetchers)]
    reads, position = 0, 0
    while position < len(data):
        if position // 4096 not in pushed:
            reads += 1
            if reads > 3:  # pages that were left out are at hand
                assert await shelves.read(extent, position, 4096) == data[position : position + 4096]
            size = min(1 << 16, len(data) - position) if reads <= 3 else 4096
            for subject in subjects:
                subject.take_in(read_frame(ino, position, size))
            await trio.testing.wait_all_tasks_blocked()
            position += size
        else:
            position += 4096
    assert reads <= 8 * prefetchers
    shares = [sum(of == number for of in pushed.values()) for number in range(prefetchers)]
    os.close(shelves._lock)
    assert min(shares) * 2 * prefetchers > sum(shares)
