"""When a slow request is worth a second one. Pure: fed with latencies, no clock of its own."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

SAMPLES = 256
"""Latencies that the percentile is taken from."""

ENOUGH = 50
"""Latencies before the 95th percentile means anything."""

SORT_EVERY = 32
"""Latencies between two looks: sorting 256 numbers takes 10 µs."""

PERCENTILE = 0.95

EXTRA = 0.05
"""Hedges for each request, at most (issue: at most 5 % extra requests)."""

SAVED = 8.0
"""Hedges that may be saved up for a burst of slow requests."""

SIZE_CLASSES = (256 << 10, 2 << 20)
"""Bytes that part requests by size: a part of 8 MiB is not slow because an image is quick."""


class HedgePolicy:
    """Latencies by size class, and the hedges that may still be spent."""

    def __init__(self) -> None:
        self._latencies = [deque[float](maxlen=SAMPLES) for _ in range(len(SIZE_CLASSES) + 1)]
        self._slow: list[float | None] = [None] * len(self._latencies)
        self._credit = 0.0
        self._requests = 0

    def __repr__(self) -> str:
        return f"HedgePolicy({self._slow}, credit {self._credit:.2f})"

    def finished(self, length: int, seconds: float) -> None:
        """A request of ``length`` bytes took ``seconds``."""
        self._credit = min(SAVED, self._credit + EXTRA)
        self._requests += 1
        size = bisect_left(SIZE_CLASSES, length)
        latencies = self._latencies[size]
        latencies.append(seconds)
        if len(latencies) >= ENOUGH and (self._slow[size] is None or self._requests % SORT_EVERY == 0):
            self._slow[size] = sorted(latencies)[int(len(latencies) * PERCENTILE)]

    def slow_after(self, length: int) -> float | None:
        """Seconds from which a request of ``length`` bytes is slow; None while that is not known."""
        return self._slow[bisect_left(SIZE_CLASSES, length)]

    def spend(self) -> bool:
        """True where one more hedge is allowed; takes it."""
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
