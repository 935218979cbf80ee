"""Warming: what is wished for ends up in the cache, once, and everything is accounted for."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ossmount.config import ReadaheadSettings
from ossmount.model import BlockId, Entry, Extent
from ossmount.readahead import Fetcher
from ossmount.readahead.warming import Warming
from tests.support.executors import DictCache, ImmediateExecutor, ManualExecutor
from tests.support.memory_index import MemoryIndex
from tests.support.memory_store import MemoryStore, opener

SETTINGS = ReadaheadSettings(max_requests=4, small_file=1000, block_size=1000, part_size=2000)
OBJECTS = {f"{i:02}": bytes([i]) * 100 for i in range(20)} | {"big": bytes(range(256)) * 20, "empty": b""}
pytestmark = pytest.mark.trio


class World:
    def __init__(self, executor: ManualExecutor | ImmediateExecutor, share: tuple[int, int] = (0, 1)) -> None:
        self.store = MemoryStore("s3://b", OBJECTS)
        self.index = MemoryIndex(
            Entry(key.encode(), Extent(self.store.id_of(key), 0, len(data)), None, 0)
            for key, data in OBJECTS.items()
        )
        self.cache = DictCache()
        self.fetcher = Fetcher(opener(self.store), self.cache, SETTINGS, executor=executor)
        self.warming = Warming(self.index, self.fetcher, self.cached, SETTINGS, share)
        self.fetcher.on_room = self.warming.room
        self.inos = [self.index.ino(key.encode()) for key in OBJECTS]

    def cached(self, block: BlockId) -> bool:
        return block in self.cache.blocks

    def batch(self, number: int) -> dict[str, int]:
        return self.warming.statistics()[f"batch-{number}"]


async def test_everything_is_fetched_once_in_canonical_blocks(nursery: trio.Nursery) -> None:
    world = World(ImmediateExecutor())
    nursery.start_soon(world.warming.run)
    world.warming.wish(1, world.inos)
    await trio.testing.wait_all_tasks_blocked()
    total = sum(map(len, OBJECTS.values()))
    assert world.batch(1) == {
        "files": 22,
        "bytes": total,
        "present_bytes": 0,
        "declined_bytes": 0,
        "failed_files": 0,
    }
    assert sum(map(len, world.cache.blocks.values())) == total
    assert {b.length for b in world.cache.blocks if b.object.key == "big"} == {1000, 120}
    requests = len(world.store.log)
    world.warming.wish(2, world.inos)
    await trio.testing.wait_all_tasks_blocked()
    assert world.batch(2)["present_bytes"] == world.batch(2)["bytes"] == total
    assert len(world.store.log) == requests
    assert world.warming.statistics()["total"]["files"] == 44


async def test_each_prefetcher_takes_its_share(nursery: trio.Nursery) -> None:
    worlds = [World(ImmediateExecutor(), (number, 3)) for number in range(3)]
    for world in worlds:
        nursery.start_soon(world.warming.run)
        world.warming.wish(1, world.inos)
    await trio.testing.wait_all_tasks_blocked()
    assert sum(world.batch(1)["files"] for world in worlds) == len(OBJECTS)
    keys = [key for world in worlds for key in {block.object.key for block in world.cache.blocks}]
    assert sorted(keys) == sorted(key for key in OBJECTS if OBJECTS[key])


async def test_what_is_withdrawn_is_not_begun(nursery: trio.Nursery) -> None:
    executor = ManualExecutor()
    world = World(executor)
    nursery.start_soon(world.warming.run)
    world.warming.wish(1, world.inos[:10])
    world.warming.wish(2, world.inos[10:12])
    await trio.testing.wait_all_tasks_blocked()
    begun = len(executor.jobs)
    assert 0 < begun < 10
    world.warming.withdraw(1)
    while executor.jobs:
        executor.run()
        await trio.testing.wait_all_tasks_blocked()
    assert world.batch(1)["bytes"] == 100 * begun
    assert world.batch(2)["files"] == 2


async def test_unknown_inodes_directories_and_failures_are_counted(nursery: trio.Nursery) -> None:
    world = World(ImmediateExecutor())
    nursery.start_soon(world.warming.run)
    world.store.delete("03")
    world.warming.wish(9, [1, 10**9, world.index.ino(b"03"), world.index.ino(b"04")])
    await trio.testing.wait_all_tasks_blocked()
    assert world.batch(9)["files"] == 4
    assert world.batch(9)["failed_files"] == 3


async def test_what_the_cache_does_not_keep_is_told(nursery: trio.Nursery) -> None:
    world = World(ImmediateExecutor())
    world.warming._cached = lambda block: False
    nursery.start_soon(world.warming.run)
    world.warming.wish(1, world.inos[:3])
    await trio.testing.wait_all_tasks_blocked()
    assert world.batch(1)["declined_bytes"] == world.batch(1)["bytes"] == 300
