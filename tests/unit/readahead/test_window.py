from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.config import ReadaheadSettings
from ossmount.model import BlockId, Extent, ObjectId
from ossmount.readahead import Fetcher
from ossmount.readahead.window import (
    DEEPER,
    EAGERNESS,
    FILES,
    GRADING,
    STREAMS_PER_FILE,
    SUB_BLOCK,
    TOP_UP,
    WindowPlan,
    WindowPlanner,
    block_around,
)
from tests.support.executors import DictCache, ImmediateExecutor
from tests.support.memory_store import MemoryStore, opener

MIB = 1 << 20
SETTINGS = ReadaheadSettings()
BIG = Extent(ObjectId("s3://b", "big", "e", 1100 * MIB), 5 * MIB + 3, 1024 * MIB)


def ahead_of(plan: WindowPlan) -> list[BlockId]:
    return [block for part in plan.parts for block in part]


def span(blocks: Sequence[BlockId]) -> int:
    return sum(block.length for block in blocks)


def test_random_reads_of_128_kib_fetch_no_megabytes() -> None:
    planner, rng = WindowPlanner(SETTINGS), random.Random(4)
    reads = 2000
    fetched = 0
    for _ in range(reads):
        plan = planner.plan(BIG, rng.randrange(0, BIG.length - SUB_BLOCK), SUB_BLOCK)
        assert span(plan.wanted) <= 2 * SUB_BLOCK
        fetched += span(plan.wanted) + span(ahead_of(plan))
    assert fetched <= reads * 2 * SUB_BLOCK


def test_a_sequential_read_soon_has_tens_of_parts_ahead() -> None:
    planner, offset, widest, frontier = WindowPlanner(SETTINGS), 0, 0, 0
    ahead: list[BlockId] = []
    while offset < BIG.length:
        plan = planner.plan(BIG, offset, MIB)
        offset += MIB
        ahead += ahead_of(plan)
        if ahead_of(plan):
            frontier = ahead_of(plan)[-1].offset + ahead_of(plan)[-1].length - BIG.offset
        for part in plan.parts:
            first, last = (block.offset - BIG.offset for block in (part[0], part[-1]))
            assert first // SETTINGS.part_size == last // SETTINGS.part_size, "parts have common borders"
        widest = max(widest, frontier - offset)
    assert len(ahead) == len(set(ahead))
    assert span(ahead) >= BIG.length - 4 * MIB
    window = DEEPER * SETTINGS.max_bytes
    assert window - SETTINGS.block_size <= widest <= window + SETTINGS.block_size


@pytest.mark.parametrize(("start", "size"), [(5 * MIB, MIB), (0, SUB_BLOCK)])
def test_two_reads_must_follow_the_first(start: int, size: int) -> None:
    planner = WindowPlanner(SETTINGS)
    plans = [planner.plan(BIG, start + i * size, size) for i in range(3)]
    assert [bool(ahead_of(plan)) for plan in plans] == [False, False, True]


def test_who_begins_with_a_whole_block_gets_the_next_ones_at_once() -> None:
    plan = WindowPlanner(SETTINGS).plan(BIG, 0, MIB)
    assert [[block.offset - BIG.offset for block in part] for part in plan.parts] == [
        [i * MIB] for i in range(1, 1 + EAGERNESS)
    ]


def test_near_parts_are_short() -> None:
    """Through a part of 8 MiB just ahead of it a reader would go at the speed of one connection."""
    planner, lengths = WindowPlanner(SETTINGS), set[int]()
    for number in range(300):
        for part in planner.plan(BIG, number * MIB, MIB).parts:
            distance = part[0].offset - BIG.offset - (number + 1) * MIB
            assert len(part) == 1 or span(part) * GRADING <= distance
            lengths.add(span(part))
    assert {MIB, SETTINGS.part_size} <= lengths


def test_reads_out_of_order_are_still_a_stream() -> None:
    planner, ahead = WindowPlanner(SETTINGS), []
    order = [0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 11]
    for i in order:
        ahead += ahead_of(planner.plan(BIG, i * MIB, MIB))
    assert span(ahead) >= 20 * MIB


def test_a_stream_goes_on_at_its_frontier_when_pushed_pages_are_read_unseen() -> None:
    planner = WindowPlanner(SETTINGS)
    for i in range(3):
        plan = planner.plan(BIG, i * MIB, MIB)
    for _ in range(4):
        tripwire = ahead_of(plan)[len(ahead_of(plan)) // 2].offset - BIG.offset
        plan = planner.plan(BIG, tripwire, 4096)
        assert ahead_of(plan), "the window must move on"
    assert span(ahead_of(plan)) > 50 * MIB


def test_interleaved_readers_of_one_file_have_a_window_each() -> None:
    planner, bases = WindowPlanner(SETTINGS), [100 * MIB * i for i in range(8)]
    ahead: list[BlockId] = []
    for step in range(10):
        for base in bases:
            ahead += ahead_of(planner.plan(BIG, base + step * MIB, MIB))
    assert len(ahead) == len(set(ahead))
    assert span(ahead) > 8 * 20 * MIB


def test_without_a_window_only_what_is_read_is_wanted() -> None:
    planner = WindowPlanner(SETTINGS, largest=0)
    assert not any(ahead_of(planner.plan(BIG, i * MIB, MIB)) for i in range(50))


def test_memory_is_bounded() -> None:
    planner = WindowPlanner(SETTINGS)
    for i in range(FILES + 50):
        planner.plan(BIG._replace(offset=i), 0, MIB)
    for i in range(STREAMS_PER_FILE + 50):
        planner.plan(BIG, i * 10 * MIB, MIB)
    assert len(planner._files) == FILES
    assert len(planner._files[BIG]) == STREAMS_PER_FILE


SMALL = ReadaheadSettings(block_size=64, part_size=256, max_bytes=1024)


@given(
    offset=st.integers(0, 1000),
    length=st.integers(1, 5000),
    reads=st.lists(st.tuples(st.integers(0, 4999), st.integers(1, 600)), max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_plans_cover_reads_with_canonical_blocks_inside_the_extent(
    offset: int, length: int, reads: list[tuple[int, int]]
) -> None:
    extent = Extent(ObjectId("s3://b", "k", "e", 9000), offset, length)
    planner = WindowPlanner(SMALL)
    for start, size in reads:
        start = min(start, length - 1)
        size = min(size, length - start)
        plan = planner.plan(extent, start, size)
        first, last = plan.wanted[0], plan.wanted[-1]
        assert first.offset <= offset + start
        assert last.offset + last.length >= offset + start + size
        assert span(ahead_of(plan)) <= DEEPER * SMALL.max_bytes + 2 * SMALL.block_size
        for block in (*plan.wanted, *ahead_of(plan)):
            assert (block.offset - offset) % 64 == 0
            assert block.length == min(64, offset + length - block.offset)


def test_the_block_around_a_sub_block() -> None:
    sub = BlockId(BIG.object, BIG.offset + 9 * SUB_BLOCK, SUB_BLOCK)
    assert block_around(BIG, sub, MIB) == BlockId(BIG.object, BIG.offset + MIB, MIB)


@pytest.mark.trio
async def test_the_fetcher_uses_a_cached_block_for_a_random_read_within_it() -> None:
    data = random.Random(1).randbytes(6 * MIB)
    store, cache = MemoryStore("s3://b", {"k": data}), DictCache()
    extent = Extent(store.id_of("k"), 0, len(data))
    first = Fetcher(opener(store), cache, SETTINGS, executor=ImmediateExecutor())
    assert await first.read(extent, 2 * MIB, MIB) == data[2 * MIB : 3 * MIB]
    for fetcher in (first, Fetcher(opener(store), cache, SETTINGS, executor=ImmediateExecutor())):
        start = 2 * MIB + 300_000
        assert await fetcher.read(extent, start, 1000) == data[start : start + 1000]
        assert store.requests["GET"] == 1
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.trio
async def test_a_process_without_prefetchers_reads_ahead_itself() -> None:
    data = array("I", range(6 * SUB_BLOCK)).tobytes()
    settings = ReadaheadSettings(prefetchers=0, small_file=1, block_size=SUB_BLOCK, part_size=MIB)
    store = MemoryStore("s3://b", {"k": data})
    extent = Extent(store.id_of("k"), 0, len(data))
    fetcher = Fetcher(opener(store), DictCache(), settings, executor=ImmediateExecutor())
    for i in range(24):
        assert (
            await fetcher.read(extent, i * SUB_BLOCK, SUB_BLOCK) == data[i * SUB_BLOCK : (i + 1) * SUB_BLOCK]
        )
        await trio.testing.wait_all_tasks_blocked()
    assert fetcher.statistics()["bytes_fetched"] == len(data)
    assert fetcher.statistics()["memory_hits"] >= 15


def test_reads_that_come_out_of_order_are_one_stream() -> None:
    """The kernel sends two READs at once, and two processes tell of them in any order."""
    planner, ahead = WindowPlanner(SETTINGS), list[BlockId]()
    for number in (0, 2, 1, 4, 3, 5, 7, 6, 8, 9):
        ahead += ahead_of(planner.plan(BIG, number * MIB, MIB))
    assert len(ahead) == len(set(ahead)), "nothing is planned twice"
    assert [block.offset for block in ahead] == sorted(block.offset for block in ahead)


def test_a_window_is_filled_up_long_before_it_is_used_up() -> None:
    planner, frontier = WindowPlanner(SETTINGS), 0
    for number in range(400):
        plan = planner.plan(BIG, number * MIB, MIB)
        frontier = ahead_of(plan)[-1].offset + MIB if ahead_of(plan) else frontier
        if number > 150 and frontier < BIG.length:
            assert frontier - (number + 1) * MIB >= DEEPER * SETTINGS.max_bytes * (1 - 1 / TOP_UP) - MIB
