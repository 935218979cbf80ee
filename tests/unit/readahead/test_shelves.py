"""What prefetchers show to workers: the right bytes or none, and nobody waits for what is not coming."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ossmount.model import BlockId, Extent, ObjectId
from ossmount.readahead import shelves as module
from ossmount.readahead.shelves import LARGEST_BLOCK, PAGE, PAGES, PATIENCE, SLOTS, Shelf, Shelves
from ossmount.readahead.window import blocks_of

BLOCK = 4096
LENGTH = 200 * BLOCK + 100
EXTENT = Extent(ObjectId("s3://b", "k", "e", LENGTH), 0, LENGTH)
BLOCKS = blocks_of(EXTENT, 0, LENGTH, BLOCK)
DATA = random.Random(1).randbytes(LENGTH)
pytestmark = pytest.mark.trio


@pytest.fixture
def shelves() -> Iterator[Shelves]:
    made = Shelves(2, BLOCK)
    yield made
    os.close(made._lock)


def shelf_of(shelves: Shelves, number: int = 0) -> Shelf:
    shelf = shelves.shelf(number)
    assert shelf is not None
    return shelf


def put(shelf: Shelf, block: BlockId) -> None:
    memory = shelf.take()
    assert memory is not None
    memory[: block.length] = DATA[block.offset : block.offset + block.length]
    shelf.put(block, memory)
    assert shelf.give_back(memory)


async def test_a_read_across_blocks_of_both_shelves(shelves: Shelves) -> None:
    put(shelf_of(shelves, 0), BLOCKS[4])
    put(shelf_of(shelves, 1), BLOCKS[5])
    offset, size = 4 * BLOCK + 10, BLOCK + 200
    assert await shelves.read(EXTENT, offset, size) == DATA[offset : offset + size]
    assert await shelves.read(EXTENT, offset, 2 * BLOCK) is None, "the third block is nowhere"
    assert shelves.statistics() == {"found": 2, "waits": 0, "in_vain": 0}


async def test_the_last_block_is_shorter(shelves: Shelves) -> None:
    put(shelf_of(shelves), BLOCKS[-1])
    assert await shelves.read(EXTENT, 200 * BLOCK, 100) == DATA[-100:]


@given(st.lists(st.integers(0, 200), max_size=3 * SLOTS), st.integers(0, 200))
async def test_right_bytes_or_none(numbers: list[int], asked: int) -> None:
    shelves = Shelves(1, BLOCK)
    shelf = shelf_of(shelves)
    for number in numbers:
        put(shelf, BLOCKS[number])
    block = BLOCKS[asked]
    found = await shelves.read(EXTENT, block.offset, block.length)
    os.close(shelves._lock)
    assert found in {None, DATA[block.offset : block.offset + block.length]}
    assert found is not None or asked not in numbers[-SLOTS:]


async def test_a_slot_in_use_is_not_taken_and_not_shown_before_it_is_full(shelves: Shelves) -> None:
    shelf = shelf_of(shelves)
    each = SLOTS // 2  # of two shelves
    for block in BLOCKS[:each]:
        put(shelf, block)
    taken = [shelf.take() for _ in range(each)]
    assert None not in taken
    assert shelf.take() is None
    assert await shelves.read(EXTENT, 0, 10) is None


async def test_who_reads_a_slot_keeps_it_from_being_taken(shelves: Shelves) -> None:
    """The reader is another process, as a worker is."""
    shelf = shelf_of(shelves)
    put(shelf, BLOCKS[0])
    held, done = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        module.fcntl.lockf(shelves._lock, module.fcntl.LOCK_SH, SLOTS)
        os.write(held[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(held[0], 1)
    assert shelf.take() is None
    os.write(done[1], b"x")
    os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
    assert shelf.take() is not None
    for descriptor in (*held, *done):
        os.close(descriptor)


async def test_who_comes_too_early_waits(shelves: Shelves, autojump_clock: trio.testing.MockClock) -> None:
    shelf, found = shelf_of(shelves), list[bytes | None]()

    async def read() -> None:
        found.append(await shelves.read(EXTENT, BLOCK, BLOCK))

    shelf.expect(BLOCKS[:3])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(PATIENCE / 2)
        assert not found
        put(shelf, BLOCKS[1])
        shelf.give_up(BLOCKS[1:2])
    assert found == [DATA[BLOCK : 2 * BLOCK]]
    assert shelves.statistics() == {"found": 1, "waits": 1, "in_vain": 0}


async def test_nobody_waits_for_what_will_not_come(
    shelves: Shelves, autojump_clock: trio.testing.MockClock
) -> None:
    shelf = shelf_of(shelves)
    shelf.expect(BLOCKS)
    with trio.move_on_after(PATIENCE / 2) as still_waiting:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shelves.read, EXTENT, 0, BLOCK)
            await trio.sleep(PATIENCE / 4)
            shelf.give_up(BLOCKS)
    assert not still_waiting.cancelled_caught
    shelf.expect(BLOCKS)
    began = trio.current_time()
    assert await shelves.read(EXTENT, 0, BLOCK) is None
    assert trio.current_time() - began == pytest.approx(PATIENCE)
    assert shelves.statistics()["in_vain"] == 1


async def test_what_a_dead_prefetcher_said_does_not_hold(shelves: Shelves) -> None:
    shelf = shelf_of(shelves)
    shelf.expect(BLOCKS[1:])
    put(shelf, BLOCKS[0])
    shelf_of(shelves)
    assert await shelves.read(EXTENT, 0, 10) is None
    assert await shelves.read(EXTENT, BLOCK, 10) is None


async def test_what_rests_holds_nothing_but_what_is_in_use(shelves: Shelves) -> None:
    shelf = shelf_of(shelves)
    put(shelf, BLOCKS[0])
    memory = shelf.take()
    assert memory is not None
    memory[:10] = DATA[:10]
    shelf.rest()
    assert await shelves.read(EXTENT, 0, 10) is None
    assert memory[:10] == DATA[:10]


async def test_there_are_none_for_very_large_blocks() -> None:
    assert Shelves(2, LARGEST_BLOCK + 1).shelf(0) is None


@pytest.mark.parametrize("block_size", [4 * PAGE, LARGEST_BLOCK + PAGE])
async def test_a_page_that_was_left_out_is_found_when_its_block_is_gone(block_size: int) -> None:
    extent = EXTENT._replace(length=(PAGES + 2) * block_size)
    blocks = blocks_of(extent, 0, extent.length, block_size)
    shelves = Shelves(2, block_size)
    pages = shelves.pages(1)
    for number, block in enumerate(blocks[: PAGES + 1]):
        pages.show(block, bytes([number]) * PAGE)
    found = [await shelves.read(extent, number * block_size, PAGE) for number in range(len(blocks))]
    assert found[1:-1] == [bytes([number]) * PAGE for number in range(1, PAGES + 1)]
    assert (found[0], found[-1]) == (None, None), "the oldest has gone, the last was never shown"
    assert await shelves.read(extent, block_size + 10, 20) == bytes([1]) * 20
    assert await shelves.read(extent, block_size, PAGE + 1) is None, "only a page is shown"
    shelves.pages(1)
    assert await shelves.read(extent, block_size, PAGE) is None, "of a prefetcher that died"
    os.close(shelves._lock)


async def test_of_what_is_shown_nothing_is_read_beyond_its_end_where_pages_are_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.mmap, "PAGESIZE", 16 * PAGE)
    shelves = Shelves(1, 2 * PAGE)
    shelves.pages(0).show(BlockId(EXTENT.object, 0, 2 * PAGE), DATA[:PAGE])
    assert await shelves.read(EXTENT, 0, PAGE) == DATA[:PAGE]
    assert await shelves.read(EXTENT, 0, PAGE + 1) is None
    os.close(shelves._lock)
