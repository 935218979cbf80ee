"""Opens that wait for what a prefetcher has in the air: they go on when it has come, and never for long."""

from __future__ import annotations

import os
import select

import pytest
import trio
import trio.testing

from ossmount.readahead import Arrivals
from ossmount.readahead.arrivals import MOST_INODES, PATIENCE, SLOTS, ArrivalWaits


async def opened(waits: ArrivalWaits, ino: int) -> float:
    """How long an open of ``ino`` waits."""
    began = trio.current_time()
    if (arrival := waits.wait_for(ino, 10)) is not None:
        await arrival()
    return trio.current_time() - began


@pytest.mark.trio
async def test_what_is_not_on_its_way_is_not_waited_for() -> None:
    arrivals = Arrivals(1, 1)
    waits = arrivals.waits_of(0, 1000)
    arrivals.expect(8)
    arrivals.come(8)
    for ino in (7, 8, 10**18):
        assert waits.wait_for(ino, 10) is None
        assert not arrivals.wanted(ino)


@pytest.mark.trio
async def test_all_who_wait_for_a_file_go_on_when_it_has_come(autojump_clock: trio.abc.Clock) -> None:
    arrivals = Arrivals(2, 1)
    waits = arrivals.waits_of(1, 1000)
    seconds: list[float] = []
    for ino in (7, 8):
        arrivals.expect(ino)

    async def open_one(ino: int) -> None:
        seconds.append(await opened(waits, ino))

    async with trio.open_nursery() as nursery:
        await nursery.start(waits.run)
        async with trio.open_nursery() as programs:
            for ino in (7, 7, 8):
                programs.start_soon(open_one, ino)
            await trio.testing.wait_all_tasks_blocked()
            arrivals.come(7)
            while len(seconds) < 2:
                await trio.lowlevel.checkpoint()
            assert max(seconds) < PATIENCE
            assert not arrivals.has_come(8)
        nursery.cancel_scope.cancel()
    assert seconds[2] >= PATIENCE
    assert waits.statistics() == {"waits": 3, "in_vain": 1}
    assert (arrivals.reopens(7), arrivals.reopens(8)) == (True, False)


@pytest.mark.trio
async def test_a_promise_that_was_not_kept_is_waited_for_once(autojump_clock: trio.abc.Clock) -> None:
    arrivals = Arrivals(1, 1)
    waits = arrivals.waits_of(0, 1000)
    arrivals.expect(7)
    assert await opened(waits, 7) >= PATIENCE
    assert await opened(waits, 7) == 0.0


@pytest.mark.trio
async def test_nobody_is_rung_for_who_waits_for_nothing(autojump_clock: trio.abc.Clock) -> None:
    arrivals = Arrivals(1, 1)
    waits = arrivals.waits_of(0, 1000)
    bell = waits._bell
    arrivals.expect(7)
    arrivals.come(7)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)
    arrivals.expect(7)
    await opened(waits, 7)  # in vain, and over
    assert os.eventfd_read(bell) == 1  # its own word to whoever waits for the same
    arrivals.come(7)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)


@pytest.mark.trio
async def test_a_cancelled_wait_leaves_nothing() -> None:
    arrivals = Arrivals(1, 1)
    waits = arrivals.waits_of(0, 1000)
    arrivals.expect(7)
    with trio.move_on_after(0):
        await opened(waits, 7)
    assert waits._events == {}
    assert not arrivals.has_come(7)


def test_a_fork_shares_the_marks_and_hears_the_bell() -> None:
    arrivals = Arrivals(1, 1)
    arrivals.expect(MOST_INODES - 1)
    child = os.fork()
    if child == 0:
        arrivals.come(MOST_INODES - 1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert arrivals.has_come(MOST_INODES - 1)


@pytest.mark.trio
async def test_a_file_that_is_covered_is_wanted_and_only_while_it_is(
    autojump_clock: trio.abc.Clock,
) -> None:
    arrivals = Arrivals(1, 1)
    waits = arrivals.waits_of(0, 1000)
    arrivals.cover(0, True)
    assert waits.wait_for(7, 1001) is None, "large files have windows of their own"
    assert waits.wait_for(7, 0) is None
    assert not arrivals.wanted(7)
    assert waits.wait_for(7, 1000) is not None
    assert arrivals.wanted(7)
    arrivals.expect(7)
    assert not arrivals.wanted(7)
    assert await opened(waits, 7) >= PATIENCE
    # Whoever should have brought it may be gone: until somebody says so anew, nobody waits for new files.
    assert waits.wait_for(8, 10) is None
    arrivals.cover(0, True)
    assert waits.wait_for(8, 10) is None, "it was opened, and so read"
    assert waits.wait_for(9, 10) is not None


def test_a_killed_worker_waits_for_nothing() -> None:
    arrivals = Arrivals(1, 1)
    arrivals.somebody_waits(0, 7)
    waits = arrivals.waits_of(0, 1000)
    arrivals.come(7)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(waits._bell)


def test_a_bell_rings_where_somebody_waits_for_the_file() -> None:
    arrivals = Arrivals(2, 1)
    bells = [arrivals.waits_of(number, 1000)._bell for number in range(2)]

    def rung() -> list[bool]:
        return [bool(select.select([bell], [], [], 0)[0] and os.eventfd_read(bell)) for bell in bells]

    arrivals.somebody_waits(1, 7)
    arrivals.come(8)
    assert rung() == [False, False]
    arrivals.come(7)
    assert rung() == [False, True]
    arrivals.nobody_waits(1, 7, [9, 7 + SLOTS])
    arrivals.come(7)
    assert rung() == [False, True], "the other file of the same slot"
    arrivals.nobody_waits(1, 7 + SLOTS, [9])
    arrivals.come(7)
    assert rung() == [False, False]


def test_each_prefetcher_covers_its_share() -> None:
    arrivals = Arrivals(1, 2)
    waits = arrivals.waits_of(0, 1000)
    arrivals.cover(1, True)
    assert [ino for ino in range(10, 16) if waits.wait_for(ino, 10) is not None] == [11, 13, 15]


def test_what_was_opened_in_this_generation_needs_no_look() -> None:
    arrivals = Arrivals(1, 1)
    waits = arrivals.waits_of(0, 1000)
    arrivals.expect(7)
    assert not arrivals.reopens(7), "on its way"
    arrivals.come(7)
    assert not arrivals.reopens(7), "never opened"
    assert waits.wait_for(7, 10) is None
    assert arrivals.reopens(7)
    assert arrivals.has_come(7)
    following = arrivals.of_next_generation()
    assert not following.reopens(7)
    assert following.has_come(7)
    assert following.waits_of(0, 1000).wait_for(7, 10) is None
    assert following.reopens(7)
    assert not arrivals.reopens(7)
    following.expect(7)
    assert not following.reopens(7), "on its way again"
    assert not arrivals.reopens(MOST_INODES)


def test_what_was_opened_with_nothing_on_its_way_is_opened_again_next_time() -> None:
    arrivals = Arrivals(1, 1)
    assert arrivals.waits_of(0, 1000).wait_for(7, 10) is None
    assert arrivals.reopens(7)
    arrivals.expect(7)
    assert not arrivals.reopens(7), "planned after it was opened"


def test_what_is_left_to_its_read_is_not_waited_for_and_was_opened_before_if_it_was() -> None:
    arrivals = Arrivals(1, 1)
    waits = arrivals.waits_of(0, 1000)
    waits.wait_for(7, 10)
    arrivals.cover(0, True)
    assert waits.wait_for(8, 10) is not None
    for ino in (7, 8, 9, MOST_INODES):
        arrivals.come(ino)
        assert waits.wait_for(ino, 10) is None
    assert arrivals.reopens(7)
    arrivals.come(7)
    assert arrivals.reopens(7)
    arrivals.expect(7)
    arrivals.come(7)
    assert not arrivals.reopens(7), "it was on its way"


def test_marks_of_hundreds_of_generations_ago_mean_nothing() -> None:
    arrivals = Arrivals(1, 1)
    arrivals.waits_of(0, 1000).wait_for(7, 10)
    arrivals.waits_of(0, 1000).wait_for(7, 10)
    assert arrivals.reopens(7)
    for _ in range(600):
        arrivals = arrivals.of_next_generation()
        assert not arrivals.reopens(7)
