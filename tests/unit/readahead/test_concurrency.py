from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ossmount.readahead.concurrency import SMALLEST, THROTTLED_CUT, ConcurrencyLimit


def test_it_starts_at_the_largest_and_stays_there_while_all_is_well() -> None:
    limit = ConcurrencyLimit(128)
    for _ in range(1000):
        limit.succeeded(0.02, 128)
    assert limit.limit == 128


def test_a_burst_of_throttled_answers_cuts_once() -> None:
    limit = ConcurrencyLimit(128)
    for _ in range(50):
        limit.throttled()
    assert limit.limit == int(128 * THROTTLED_CUT)


def test_lasting_throttling_goes_down_to_the_smallest_and_good_answers_up_again() -> None:
    limit = ConcurrencyLimit(128)
    for _ in range(3000):
        limit.throttled()
    assert limit.limit == SMALLEST
    for _ in range(20_000):
        limit.succeeded(0.02, limit.limit)
    assert limit.limit == 128


def test_an_unused_limit_does_not_grow() -> None:
    limit = ConcurrencyLimit(128)
    limit.throttled()
    for _ in range(1000):
        limit.succeeded(0.02, 3)
    assert limit.limit == int(128 * THROTTLED_CUT)


def test_requests_that_queue_in_the_store_are_not_sent() -> None:
    limit = ConcurrencyLimit(128)
    limit.succeeded(0.01, 1)
    for _ in range(3000):
        limit.succeeded(0.01 * max(1, limit.limit / 4), limit.limit)  # serves four at a time
    assert limit.limit < 64


def test_a_quick_store_on_a_busy_machine_is_not_taken_for_a_queue() -> None:
    limit = ConcurrencyLimit(128)
    limit.succeeded(0.0001, 1)
    for _ in range(1000):
        limit.succeeded(0.05, 128)
    assert limit.limit == 128


@given(st.integers(1, 300), st.lists(st.none() | st.floats(0, 10)))
def test_always_within_bounds(largest: int, outcomes: list[float | None]) -> None:
    limit = ConcurrencyLimit(largest)
    for seconds in outcomes:
        if seconds is None:
            limit.throttled()
        else:
            limit.succeeded(seconds, limit.limit)
        assert min(SMALLEST, largest) <= limit.limit <= largest
