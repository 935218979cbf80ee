"""Who may come into a full disk cache, and over whom. Pure: no files, no time, only traffic counted in bytes.

Training reads every file once per epoch, in random order. With a data set larger than the cache, LRU and FIFO
drop every block shortly before it is read again: no hits at all. What helps is to *keep* something: with a
fraction f of the data set resident and left alone, every epoch hits f of its reads, and no policy that does
not know the order can do better. So a full cache declines newcomers, except over residents that the traffic
has left behind:

- *Proven newcomers.* A newcomer that was declined before has a known reuse distance: the traffic since then.
  The segment that has been idle for longest makes way when it has been idle for more than ``PATIENCE`` times
  the *mean* distance of late: whatever it holds comes back more slowly than the newcomers, by a wide margin.
  (The single newcomer's distance would mislead: where two shuffled epochs meet, some blocks come again at
  once.) The rule has no scale: it turns a cache over within a few epochs of a new data set, large or small,
  yet never in a loop (shuffled or sequential) over one data set, where idle times are about the distances.
- *Abandoned residents.* A segment idle for ``ABANDONED`` cache sizes of traffic makes way for anyone: tiny
  files outrun the memory of declined blocks, and still a shift must win in the end.

Neither holds for a scan: its blocks come once, so they are never proven, and the hot set beside it is read,
so it is never abandoned.
"""

from __future__ import annotations

PATIENCE = 3
"""How much longer than the newcomers' mean reuse distance a segment must have been idle.

Time x into a shuffled epoch of length D, distances are spread over x to x + D, and a segment of few blocks
may have been idle for x + D: always less than twice the mean. The rest is for noise.
"""

MEMORY = 64
"""Newcomers over which the mean distance is taken (exponentially): sampling noise below 5% of an epoch."""

ABANDONED = 8
"""Idle time, in cache sizes of traffic, after which a segment makes way for anyone.

Large, because it bounds the loops that are kept without proof: a sequential loop over 8 caches still hits.
"""

LEAST_IDLE = 1 / 16
"""Idle time, in cache sizes, below which a segment is in use whatever the newcomers prove.

Also the distance below which an offer repeats the last one (a prefetcher and a worker offer the same block).
"""

PROOF = 1 / 4
"""Proven newcomers, as a part of a segment's bytes, that it takes to give one segment up: not a lucky few."""

DOUBT = 1 / 8
"""How much of its bytes an unproven newcomer takes off the proof: below one in nine, the proven are noise."""


class Admission:
    """Decides on newcomers to a full cache. Keeps the proof collected so far; one per process."""

    def __init__(self, capacity: int, segment_size: int) -> None:
        self._segment_size = segment_size
        self._proof = 0.0
        self._distance = 0.0
        self._known = 0
        self.abandoned = ABANDONED * capacity
        self.least_idle = int(LEAST_IDLE * capacity)

    def __repr__(self) -> str:
        needed = self._segment_size * PROOF
        return f"Admission(distance={self._distance:.0f}, proof={self._proof:.0f}/{needed:.0f})"

    def required_idle(self, length: int, distance: int | None, idle: int) -> int | None:
        """Whether a newcomer of ``length`` bytes may have a segment given up.

        ``distance`` is the traffic in bytes since the newcomer was last offered, None where that is not
        known; ``idle`` the traffic since the most idle segment was last read. Returns how idle the victim
        must at least be (``idle`` may be an estimate; the caller checks it against the truth), or None:
        decline.
        """
        if idle > self.abandoned:
            return self.abandoned
        if distance is None:
            self._proof = max(0.0, self._proof - DOUBT * length)
            return None
        if self.repeats(distance):
            return None
        needed = max(int(PATIENCE * self._mean_with(distance)), self.least_idle)
        self._proof = self._proof + length if idle > needed else 0.0
        if self._proof < PROOF * self._segment_size:
            return None
        self._proof = 0.0
        return needed

    def repeats(self, distance: int) -> bool:
        """Whether an offer at that distance is the last one again, and its time is not to be noted anew."""
        return distance < self.least_idle

    def _mean_with(self, distance: int) -> float:
        self._known = min(self._known + 1, MEMORY)
        self._distance += (distance - self._distance) / self._known
        return self._distance
