"""What a fetcher counts. Plain numbers, so that processes can add theirs up. Pure; level 0 only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class FetchStatistics:
    """Counters since the start, and four gauges, which stand last."""

    reads: int = 0
    """Reads that programs asked for."""
    bytes_read: int = 0
    memory_hits: int = 0
    """Blocks that were at hand in memory."""
    cache_hits: int = 0
    """Blocks that came from the disk cache."""
    shared: int = 0
    """Blocks that were already on their way for somebody else."""
    requests: int = 0
    """GETs to the store, hedges included."""
    bytes_fetched: int = 0
    """Bytes that came from the store."""
    prefetched: int = 0
    """Blocks that were asked for ahead of a program."""
    hedges: int = 0
    hedges_won: int = 0
    throttled: int = 0
    """Answers that asked for fewer requests."""
    errors: int = 0
    """Flights that failed."""
    store_blocks: int = 0
    """Blocks that came from the store."""
    wait_seconds: float = 0.0
    """Seconds that reads waited for blocks that were not in memory, added up over all reads."""
    deadlines: int = 0
    """Reads that were given up at the deadline."""
    left_out: int = 0
    """Blocks of streams that were not offered to the disk cache, because it could not keep up."""
    in_flight: int = 0
    bytes_in_flight: int = 0
    queued: int = 0
    limit: int = 0
    """Requests that may be in flight at present."""

    def took(self, requests: int, pieces: int, fresh: list[int]) -> None:
        """A flight brought ``pieces`` blocks; ``fresh``: the lengths of those from the store."""
        self.requests += requests
        self.store_blocks += len(fresh)
        self.cache_hits += max(0, pieces - len(fresh))  # blocks that were passed on one by one are no pieces
        self.bytes_fetched += sum(fresh)
