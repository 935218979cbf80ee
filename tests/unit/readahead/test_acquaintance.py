"""When files are introduced to the kernel."""

from __future__ import annotations

from functools import partial

import pytest

from ossmount.errors import NoSuchEntry
from ossmount.model import Entry, Extent, ObjectId
from ossmount.readahead import Acquaintance, Acquaintances
from ossmount.readahead.acquaintance import AGAIN_SECONDS, REMEMBERED, REPEATS, REPEATS_PER_SECOND, STRETCH
from tests.support.memory_index import MemoryIndex

CAT, DOG = "c/{:04}", "d/{:04}"
COUNT = 3 << STRETCH


class World:
    """Two directories of some stretches, and prefetchers that note what they introduce."""

    def __init__(self, prefetchers: int = 1) -> None:
        keys = [name.format(i) for name in (CAT, DOG) for i in range(COUNT)]
        self.index = MemoryIndex(
            Entry(key.encode(), Extent(ObjectId("s3://b", key, "e", 9), 0, 9), None, 0) for key in keys
        )
        self.now = 100.0
        self.introduced = [list[tuple[int, int]]() for _ in range(prefetchers)]
        all_of_them = Acquaintances()
        self.prefetchers = [
            Acquaintance(
                self.index,
                partial(self._introduce, number),
                all_of_them,
                (number, prefetchers),
                clock=lambda: self.now,
            )
            for number in range(prefetchers)
        ]

    def _introduce(self, number: int, directory: int, after: int) -> bool:
        self.introduced[number].append((directory, after))
        return True

    def ino(self, key: str) -> int:
        return self.index.ino(key.encode())

    def told(self, number: int = 0) -> list[tuple[int, int]]:
        """What prefetcher ``number`` introduced since the last call."""
        self.prefetchers[number].go_on()
        told, self.introduced[number] = self.introduced[number], []
        return told


def test_a_stretch_is_introduced_once_whoever_plans_its_files() -> None:
    world = World(2)
    inos = [world.ino(CAT.format(i)) for i in range(COUNT)]
    for ino in inos:
        world.prefetchers[ino % 2].plan(ino)
    told = world.told(0) + world.told(1)
    assert {directory for directory, _ in told} == {world.ino("c")}
    assert len(told) == len({ino >> STRETCH for ino in inos})
    assert world.prefetchers[0].introduced + world.prefetchers[1].introduced == len(told)


def test_every_file_lies_in_the_listing_that_introduces_it() -> None:
    world = World()
    for name in (CAT, DOG):
        for i in range(COUNT):
            ino = world.ino(name.format(i))
            world.prefetchers[0].plan(ino)
            for directory, after in world.told():
                parts = world.index.children(directory, after)
                names = [child.attributes.ino for part in parts for child in part]
                assert ino in names[: 1 << STRETCH]
                assert (after or names[0]) <= ino


def test_what_the_kernel_asks_for_is_introduced_by_one_prefetcher_and_not_at_once_again() -> None:
    world = World(2)
    ino = world.ino(CAT.format(1))
    for prefetcher in world.prefetchers:
        prefetcher.miss(ino)
        prefetcher.miss(ino + 1)
    told = [world.told(0), world.told(1)]
    assert sorted(map(len, told)) == [0, 1]
    world.now += AGAIN_SECONDS / 2
    for prefetcher in world.prefetchers:
        prefetcher.miss(ino)
    assert world.told(0) + world.told(1) == []
    world.now += AGAIN_SECONDS / 2
    for prefetcher in world.prefetchers:
        prefetcher.miss(ino)
    assert [world.told(0), world.told(1)] == told


def test_pages_that_are_refused_are_a_reason_to_introduce_what_was_introduced_before() -> None:
    world = World()
    ino = world.ino(DOG.format(1))
    world.prefetchers[0].plan(ino)
    assert len(world.told()) == 1
    world.prefetchers[0].refuse(ino)
    world.prefetchers[0].refuse(ino)
    assert len(world.told()) == 1
    world.prefetchers[0].plan(ino)
    assert world.told() == []


def test_only_so_many_are_introduced_because_the_kernel_does_not_know_them() -> None:
    """Also that only so many are remembered: the first may be introduced anew before its time has come."""
    world = World()
    acquaintance = world.prefetchers[0]
    for stretch in range(REMEMBERED + REPEATS):
        world.now += (stretch >= REPEATS) / REPEATS_PER_SECOND
        acquaintance._repeat((4, stretch))
        acquaintance._repeat((4, stretch))
    assert len(world.told()) == REMEMBERED + REPEATS
    for stretch in range(100):
        acquaintance._repeat((5, stretch))
    assert len(world.told()) <= 1
    world.now += 3 * REPEATS
    for stretch in range(2 * REPEATS):
        acquaintance._repeat((6, stretch))
    assert len(world.told()) == REPEATS, "what was not used is not saved up"


def test_what_is_of_another_generation_is_skipped() -> None:
    world = World()
    acquaintance = world.prefetchers[0]
    with pytest.raises(NoSuchEntry):
        acquaintance.plan(10**9)
    with pytest.raises(NoSuchEntry):
        acquaintance.miss(10**9)
    acquaintance.refuse(10**9)
    acquaintance.plan(world.ino(CAT.format(0)))
    assert len(world.told()) == 1
    assert repr(acquaintance) == "Acquaintance(0 stretches to introduce)"


def test_nobody_is_introduced_where_that_is_not_possible() -> None:
    world = World()
    acquaintance = Acquaintance(world.index)
    acquaintance.plan(world.ino(CAT.format(0)))
    acquaintance.go_on()
    assert acquaintance.introduced == 0


def test_neighbours_do_not_share_a_place() -> None:
    """Directories of one file, of 40 and of a thousand, numbered as an index does it."""
    for files in (1, 40, 1000):
        everyone = Acquaintances()
        directories = range(2, 300_000, files + 1)
        stretches = {(d, ino >> STRETCH) for d in directories for ino in range(d + 1, d + 1 + files)}
        assert sum(map(everyone.claim, stretches)) >= 0.99 * len(stretches)
