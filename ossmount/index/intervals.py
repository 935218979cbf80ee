"""Intervals of inode numbers that were looked up lately, so that most look-ups need no database.

An interval is one row of the table of inodes: a stretch of numbers that stand in one run. A look-up in LMDB
takes two cursor moves, and each gives up the interpreter lock and waits for it again, which in a process
with a hundred fetching threads costs more than all else. What may live here: that memory; no LMDB.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

KEPT = 4096
"""Intervals remembered, about half a megabyte; a tree of a million files in directories of some hundred has
two to ten thousand. Then it starts afresh."""


class Interval(NamedTuple):
    """``max(length, 1)`` numbers from ``first``; length, row and rest as the table of inodes has them."""

    first: int
    length: int
    row: int
    rest: bytes


class Intervals:
    """Intervals by number."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._intervals: list[Interval] = []

    def __repr__(self) -> str:
        return f"Intervals({len(self._firsts)})"

    def find(self, ino: int) -> Interval | None:
        """The remembered interval that holds ``ino``."""
        at = bisect_right(self._firsts, ino) - 1
        if at < 0:
            return None
        interval = self._intervals[at]
        return interval if ino - interval.first < max(interval.length, 1) else None

    def add(self, interval: Interval) -> Interval:
        """Remembers ``interval``, and gives it back."""
        if len(self._firsts) >= KEPT:
            self._firsts.clear()
            self._intervals.clear()
        at = bisect_right(self._firsts, interval.first)
        if not at or self._firsts[at - 1] != interval.first:
            self._firsts.insert(at, interval.first)
            self._intervals.insert(at, interval)
        return interval
