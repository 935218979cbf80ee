"""Calls that the supervisor makes later.

What may live here: when, not what. Who may touch it: whoever changes how the supervisor waits.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator

Call = Callable[[], None]


class Timers:
    """Calls by the moment at which they are due."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Call]] = []
        self._order = itertools.count()

    def __repr__(self) -> str:
        return f"<Timers {len(self._waiting)} waiting>"

    def later(self, seconds: float, call: Call) -> None:
        """``call()`` once, in ``seconds``."""
        heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._order), call))

    def wait(self) -> float | None:
        """Seconds until the next call is due; None where there is none."""
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None

    def due(self) -> Iterator[Call]:
        """Every call whose time has come, once."""
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            yield heapq.heappop(self._waiting)[2]
