"""How many requests may be in flight. Pure: fed with outcomes, no clock of its own.

Additive increase, multiplicative decrease: a store that answers 429 or 503 SlowDown is asked for less at
once and for more again little by little; so is one whose latency rises far above its best, for then
requests only queue there.
"""

from __future__ import annotations

SMALLEST = 4
"""Requests that are always allowed: fewer would not keep one DataLoader worker busy."""

THROTTLED_CUT = 0.7
LATENCY_CUT = 0.9

QUEUEING = 8.0
"""Times the best latency from which requests are taken to queue in the store. High, because the processor
of a busy machine alone doubles or triples what is measured here."""

QUEUEING_SECONDS = 0.1
"""… and at least so long: below it, as with a store on this machine, one measures the own threads."""

USUAL_BYTES = 1 << 20
"""Requests up to this size tell the store's latency; larger ones its bandwidth."""

BASE_DRIFT = 1.0001
"""The best latency rises so much with each answer, so that it follows a store that became slower."""

LATENCY_WEIGHT = 0.1

BACKLOG = 4
"""In a process that answers nobody a quarter more requests than may be in flight are handed to the threads:
a thread that has finished takes the next without sleeping, which saves two context switches a request."""

TOGETHER = 8
"""… and its loop is woken for so many landings at once, or by the watch."""


class ConcurrencyLimit:
    """``limit`` is between 4 (or ``largest``) and ``largest``, where it starts."""

    def __init__(self, largest: int) -> None:
        self._largest = max(1, largest)
        self._smallest = min(SMALLEST, self._largest)
        self._limit = float(self._largest)
        self._base = 0.0
        self._latency = 0.0
        self._since_cut = 0

    def __repr__(self) -> str:
        return f"ConcurrencyLimit({self.limit}/{self._largest}, {self._latency * 1000:.1f} ms)"

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return int(self._limit)

    @property
    def with_backlog(self) -> int:
        """Requests that a process that answers nobody may hand over; no more than ``limit`` after a cut."""
        return self.limit + self.limit // BACKLOG if self._limit >= self._largest else self.limit

    @property
    def patience(self) -> int:
        """Landings for which the loop of a process that answers nobody is woken once."""
        return min(TOGETHER, 1 + self.limit // TOGETHER)

    def succeeded(self, seconds: float, in_flight: int) -> None:
        """A request of usual size (``USUAL_BYTES``) was answered; ``in_flight`` counts it."""
        self._base = min(self._base * BASE_DRIFT, seconds) if self._base else seconds
        self._latency += LATENCY_WEIGHT * (seconds - self._latency)
        self._since_cut += 1
        if self._latency > max(QUEUEING * self._base, QUEUEING_SECONDS):
            self._cut(LATENCY_CUT)
        elif in_flight >= self._limit / 2:  # an unused limit proves nothing
            self._limit = min(self._largest, self._limit + 1 / self._limit)

    def throttled(self) -> None:
        """The store asked for fewer requests."""
        self._since_cut += 1
        self._cut(THROTTLED_CUT)

    def _cut(self, factor: float) -> None:
        """Once for all the requests that were in flight together."""
        if self._since_cut >= self._limit or self._limit == self._largest:
            self._limit = max(float(self._smallest), self._limit * factor)
            self._since_cut = 0
