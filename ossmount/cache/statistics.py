"""Counters that every cache shows. Plain values; the caches count, nobody else writes them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(slots=True)
class CacheStatistics:
    """What one cache object has done since it was opened, in this process.

    ``bytes``, ``capacity`` are bytes now held and allowed (disk: by all processes together, reserved space
    included). ``evictions`` counts blocks in memory and segments on disk, ``declined`` blocks that were
    offered and not kept, ``bad_blocks`` those with a wrong checksum, ``failures`` operations that failed.
    """

    hits: int = 0
    misses: int = 0
    hit_bytes: int = 0
    stored: int = 0
    stored_bytes: int = 0
    declined: int = 0
    evictions: int = 0
    bad_blocks: int = 0
    failures: int = 0
    bytes: int = 0
    capacity: int = 0

    def copy(self) -> CacheStatistics:
        """A snapshot."""
        return dataclasses.replace(self)
