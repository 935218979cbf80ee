"""The memory of intervals gives what was put in, and nothing for numbers between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ossmount.index import intervals
from ossmount.index.intervals import Interval, Intervals


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30)), max_size=40))
def test_a_number_is_found_in_its_own_interval_only(gaps: list[tuple[int, int]]) -> None:
    made, first = [], 0
    for gap, length in gaps:
        first += gap
        made.append(Interval(first, length, 0, b"%d" % first))
        first += max(length, 1)
    memory = Intervals()
    for interval in [*made, *made]:
        memory.add(interval)
    for number in range(first + 3):
        owner = next((i for i in made if i.first <= number < i.first + max(i.length, 1)), None)
        assert memory.find(number) == owner


def test_it_starts_afresh_when_full() -> None:
    memory = Intervals()
    for number in range(intervals.KEPT + 1):
        memory.add(Interval(number * 10, 5, 0, b""))
    assert memory.find(0) is None
    assert memory.find(intervals.KEPT * 10 + 4) is not None
