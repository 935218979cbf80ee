from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.config import ReadaheadSettings
from ossmount.errors import (
    IsADirectory,
    NameTooLong,
    NoSuchAttribute,
    NoSuchEntry,
    NotADirectory,
    ObjectChanged,
)
from ossmount.fs import FileSystem
from ossmount.fs.filesystem import ALL_AGAIN
from ossmount.model import ROOT_INODE, Entry, Extent, Kind, ObjectId
from ossmount.readahead.fetcher import Fetcher
from tests.support.executors import DictCache, ImmediateExecutor, NearCache
from tests.support.memory_index import MemoryIndex
from tests.support.memory_store import MemoryStore, opener

OBJECTS = {
    "train/cat/1.jpg": bytes(range(256)) * 3,
    "train/cat/2.jpg": b"",
    "train/dog/3.jpg": b"dog",
    "big": bytes(i % 251 for i in range(20_000)),
}
SETTINGS = ReadaheadSettings(small_file=1000, block_size=512, part_size=2048)


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.rests = True

    def opened(self, ino: int, *, waits: bool) -> None:
        self.told.append(("opened", ino, waits))

    def reopened(self, ino: int) -> bool:
        self.told.append(("reopened", ino))
        return self.rests

    def unasked(self) -> None:
        self.told.append(("unasked",))

    def read(self, ino: int, offset: int, size: int, *, cached: bool) -> None:
        self.told.append(("read", ino, offset, size, cached))

    def looked_up(self, ino: int) -> None:
        self.told.append(("looked up", ino))

    def listed(self, ino: int) -> None:
        self.told.append(("listed", ino))


class World:
    """A store, its index and a file system over both. Make it inside a trio run."""

    def __init__(self, objects: dict[str, bytes] = OBJECTS, cache: DictCache | None = None) -> None:
        self.store = MemoryStore("s3://b", objects)
        self.index = MemoryIndex(
            [
                Entry(key.encode(), Extent(self.store.id_of(key), 0, len(data)), f"label-{key[-5:]}", 7)
                for key, data in objects.items()
            ],
            source="s3://b/",
            generation=3,
        )
        fetcher = Fetcher(opener(self.store), cache or DictCache(), SETTINGS, executor=ImmediateExecutor())
        self.seen = Seen()
        self.fs = FileSystem(self.index, fetcher, observer=self.seen)

    def ino(self, path: str) -> int:
        return self.index.ino(path.encode())


@pytest.mark.trio
async def test_names_lead_to_attributes() -> None:
    world = World()
    train = world.fs.lookup(ROOT_INODE, b"train")
    assert (train.kind, train.links) == (Kind.DIRECTORY, 4)
    cat = world.fs.lookup(train.ino, b"cat")
    first = world.fs.lookup(cat.ino, b"1.jpg")
    assert first == world.fs.attributes(first.ino)
    assert (first.kind, first.size, first.mtime_ns, first.links) == (Kind.FILE, 768, 7, 1)
    with pytest.raises(NoSuchEntry, match="nothing"):
        world.fs.lookup(cat.ino, b"nothing")
    with pytest.raises(NotADirectory):
        world.fs.lookup(first.ino, b"x")
    with pytest.raises(NoSuchEntry):
        world.fs.attributes(999)


@pytest.mark.trio
async def test_a_name_that_no_file_can_have_is_told_from_one_that_none_has() -> None:
    fs = World().fs
    with pytest.raises(NoSuchEntry):
        fs.lookup(ROOT_INODE, b"n" * 255)
    with pytest.raises(NameTooLong):
        fs.lookup(ROOT_INODE, b"n" * 256)


@pytest.mark.trio
async def test_a_listing_goes_on_behind_any_child() -> None:
    world = World()
    names = [name for part in world.fs.listing(ROOT_INODE) for name in part.names]
    assert names == [b"big", b"train"]
    rest = list(world.fs.listing(ROOT_INODE, after=world.ino("big")))
    assert [part.names for part in rest] == [[b"train"]]
    assert rest[0].inos == [world.ino("train")]
    assert world.seen.told == [], "a prefetcher lists too"


@pytest.mark.trio
async def test_listings_and_names_of_files_are_told() -> None:
    world = World()
    world.fs.listed(ROOT_INODE)
    world.fs.lookup(ROOT_INODE, b"train")
    found = world.fs.lookup(ROOT_INODE, b"big")
    with pytest.raises(NoSuchEntry):
        world.fs.lookup(ROOT_INODE, b"nothing")
    assert world.seen.told == [("listed", ROOT_INODE), ("looked up", found.ino)]


@pytest.mark.trio
async def test_reads_are_clamped_and_observed() -> None:
    world = World()
    ino = world.ino("train/cat/1.jpg")
    assert await world.fs.read(ino, 700, 500) == OBJECTS["train/cat/1.jpg"][700:]
    assert await world.fs.read(ino, 768, 500) == b""
    assert await world.fs.read(world.ino("train/cat/2.jpg"), 0, 500) == b""
    assert world.seen.told[0] == ("read", ino, 700, 500, False)
    with pytest.raises(IsADirectory):
        await world.fs.read(world.ino("train"), 0, 1)
    with pytest.raises(NoSuchEntry):
        await world.fs.read(999, 0, 1)


@pytest.mark.trio
async def test_who_is_told_of_a_read_hears_whether_the_store_is_asked() -> None:
    world = World(cache=(cache := NearCache()))
    small, large = world.ino("train/cat/1.jpg"), world.ino("big")
    await world.fs.read(small, 0, 100)
    await world.fs.read(large, 0, 100)
    cache.put(world.index.extent(small).block, OBJECTS["train/cat/1.jpg"])
    cache.put(world.index.extent(large).block, OBJECTS["big"])
    await world.fs.read(small, 0, 100)
    await world.fs.read(large, 0, 100)
    assert [told[1:] for told in world.seen.told] == [
        (small, 0, 100, False),
        (large, 0, 100, False),
        (small, 0, 100, True),
        (large, 0, 100, False),  # its window follows every READ
    ]


@pytest.mark.trio
async def test_what_is_at_hand_is_read_without_waiting() -> None:
    world = World()
    ino = world.ino("train/cat/1.jpg")
    assert world.fs.read_nowait(ino, 0, 100) is None
    assert (world.seen.told, world.fs.served()["reads"]) == ([], 0), "it will be asked for again"
    await world.fs.read(ino, 0, 100)
    assert world.fs.read_nowait(ino, 700, 500) == OBJECTS["train/cat/1.jpg"][700:]
    assert world.seen.told[-1] == ("read", ino, 700, 500, True)
    served = world.fs.served()
    assert (served["reads"], served["first_reads"], served["read_bytes"]) == (2, 1, 168)
    assert served["read_latency"]["+Inf"] == 0, "0.5 ms are enough for it"
    assert world.fs.read_nowait(world.ino("big"), 0, 10) is None
    with pytest.raises(IsADirectory):
        world.fs.read_nowait(world.ino("train"), 0, 1)


@given(
    reads=st.lists(st.tuples(st.sampled_from(sorted(OBJECTS)), st.integers(0, 21_000), st.integers(0, 9000)))
)
@settings(max_examples=40, deadline=None)
def test_any_sequence_of_reads_returns_the_right_bytes(reads: list[tuple[str, int, int]]) -> None:
    async def check() -> None:
        world = World()
        for key, offset, size in reads:
            data = await world.fs.read(world.ino(key), offset, size)
            assert data == OBJECTS[key][offset : offset + size]

    trio.run(check)


@pytest.mark.trio
async def test_the_remainder_of_a_small_file_is_given_once() -> None:
    world = World()
    ino = world.ino("train/cat/1.jpg")
    await world.fs.read(ino, 0, 100)
    assert world.fs.remainder(ino) == (100, OBJECTS["train/cat/1.jpg"][100:])
    assert world.fs.remainder(ino) is None
    await world.fs.read(ino, 100, 100)
    assert world.fs.remainder(ino) is None


@pytest.mark.trio
async def test_there_is_no_remainder_of_a_whole_read_a_large_file_or_another_inode() -> None:
    world = World()
    small, big = world.ino("train/dog/3.jpg"), world.ino("big")
    await world.fs.read(small, 0, 100)
    assert world.fs.remainder(small) is None
    await world.fs.read(big, 0, 100)
    assert world.fs.remainder(big) is None
    await world.fs.read(world.ino("train/cat/1.jpg"), 0, 100)
    assert world.fs.remainder(small) is None


@pytest.mark.trio
async def test_a_changed_object_is_an_error_and_an_incident() -> None:
    world = World()
    world.store.put("big", b"new")
    for _ in range(3):
        with pytest.raises(ObjectChanged):
            await world.fs.read(world.ino("big"), 0, 10)
    assert world.fs.statistics() == {"ObjectChanged": 3}


@pytest.mark.trio
async def test_extended_attributes_tell_the_object() -> None:
    world = World()
    ino = world.ino("train/dog/3.jpg")
    names = world.fs.xattr_names(ino)
    assert {name: world.fs.xattr(ino, name) for name in names} == {
        b"user.ossmount.uri": b"s3://b/train/dog/3.jpg",
        b"user.ossmount.key": b"train/dog/3.jpg",
        b"user.ossmount.etag": world.store.id_of("train/dog/3.jpg").etag.encode(),
        b"user.ossmount.size": b"3",
        b"user.ossmount.label": b"label-3.jpg",
    }
    assert world.fs.xattr_names(world.ino("train")) == []
    for name in (b"user.ossmount.nothing", b"security.capability"):
        with pytest.raises(NoSuchAttribute):
            world.fs.xattr(ino, name)
    with pytest.raises(NoSuchEntry):
        world.fs.xattr_names(999)


@pytest.mark.trio
async def test_the_root_tells_source_and_generation() -> None:
    fs = World().fs
    assert {name: fs.xattr(ROOT_INODE, name) for name in fs.xattr_names(ROOT_INODE)} == {
        b"user.ossmount.source": b"s3://b/",
        b"user.ossmount.generation": b"3",
    }


@pytest.mark.trio
async def test_totals_are_those_of_the_index() -> None:
    totals = World().fs.totals()
    assert (totals.files, totals.directories, totals.total_bytes) == (4, 4, 768 + 3 + 20_000)


@pytest.mark.trio
async def test_an_inode_that_was_looked_at_is_not_looked_up_again_for_an_open() -> None:
    world = World()
    ino = world.ino("train/cat/1.jpg")
    asked: list[int] = []
    known = {ino}

    def arrival(ino: int, size: int) -> None:
        asked.append(ino)

    fs = FileSystem(
        world.index, world.fs._fetcher, observer=world.seen, arrival=arrival, reopens=known.__contains__
    )
    assert fs.opened(ino) is None
    assert world.seen.told == [("reopened", ino)]
    known.clear()
    assert fs.opened(ino) is None
    assert world.seen.told[1:] == [("opened", ino, False)]
    assert asked == [ino]
    with pytest.raises(NoSuchEntry):
        fs.opened(999)
    assert fs.served()["opens"] == 3


def rereading(again: set[int]) -> tuple[FileSystem, Seen]:
    """A file system of ``2 * ALL_AGAIN`` files of which those in ``again`` were opened before."""
    entries = [
        Entry(f"{number:05}".encode(), Extent(ObjectId("s3://b", f"{number:05}", "e", 1), 0, 1), None, 7)
        for number in range(2 * ALL_AGAIN)
    ]
    seen = Seen()
    fetcher = Fetcher(opener(MemoryStore("s3://b", {})), DictCache(), SETTINGS, executor=ImmediateExecutor())
    return FileSystem(MemoryIndex(entries), fetcher, observer=seen, reopens=again.__contains__), seen


FIRST_FILE = ROOT_INODE + 1


@pytest.mark.trio
async def test_opens_say_nothing_once_all_that_is_opened_was_opened_before() -> None:
    fs, _ = rereading(set(range(FIRST_FILE, FIRST_FILE + ALL_AGAIN)))
    for _ in range(2 * ALL_AGAIN):
        fs.opened(FIRST_FILE)
    assert fs.opens_matter, "one file again and again"
    for ino in range(FIRST_FILE, FIRST_FILE + ALL_AGAIN - 1):
        fs.opened(ino)
    assert fs.opens_matter
    fs.opened(FIRST_FILE + ALL_AGAIN)
    assert fs.opens_matter, "a new one"
    for ino in range(FIRST_FILE, FIRST_FILE + ALL_AGAIN):
        assert fs.opens_matter
        fs.opened(ino)
    assert not fs.opens_matter


@pytest.mark.trio
async def test_opens_matter_while_anybody_plans() -> None:
    fs, seen = rereading(set(range(FIRST_FILE, FIRST_FILE + ALL_AGAIN)))
    seen.rests = False
    for ino in range(FIRST_FILE, FIRST_FILE + ALL_AGAIN):
        fs.opened(ino)
    assert fs.opens_matter


@pytest.mark.trio
async def test_reads_of_files_opened_unasked_are_told() -> None:
    world = World()
    world.fs.opens_end()
    world.fs.read_unasked()
    assert world.seen.told == [("unasked",)]
    assert world.fs.served()["opens_unasked"] == 1
