"""The block cache in this process's memory, and the cache that keeps nothing.

What may live here: bookkeeping in RAM, no I/O. One instance per process; it is not shared over a fork.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from ossmount.cache.statistics import CacheStatistics
from ossmount.model import BlockId


class NullCache:
    """Keeps nothing: ``--cache-size 0``."""

    def __init__(self) -> None:
        self._counts = CacheStatistics()

    def __repr__(self) -> str:
        return "NullCache()"

    def get(self, block: BlockId) -> bytes | None:
        """Always None."""
        self._counts.misses += 1
        return None

    def get_range(self, block: BlockId, start: int, length: int) -> bytes | None:
        """Always None."""
        return self.get(block)

    def contains(self, block: BlockId) -> bool:
        """Always False."""
        return False

    def put(self, block: BlockId, data: bytes) -> None:
        """Declines."""
        self._counts.declined += 1

    def put_many(self, blocks: Sequence[tuple[BlockId, bytes]], *, hurry: bool = False) -> None:
        """Declines."""
        self._counts.declined += len(blocks)

    def statistics(self) -> CacheStatistics:
        """Counters of this process."""
        return self._counts.copy()

    def close(self) -> None:
        """Nothing to free."""


class MemoryCache:
    """Least recently used blocks, at most ``capacity_bytes`` of data. Thread-safe, every method O(1).

    LRU is right here although it is wrong on disk: memory only bridges the moments between the parts of one
    read, for which recency is the whole truth. The data set's re-reads are the disk cache's matter.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._blocks: OrderedDict[BlockId, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._counts = CacheStatistics(capacity=capacity_bytes)

    def __repr__(self) -> str:
        return f"MemoryCache({self._counts.bytes}/{self._capacity} bytes, {len(self._blocks)} blocks)"

    def get(self, block: BlockId) -> bytes | None:
        """The block's bytes, or None."""
        with self._lock:
            data = self._blocks.get(block)
            if data is None:
                self._counts.misses += 1
                return None
            self._blocks.move_to_end(block)
            self._counts.hits += 1
            self._counts.hit_bytes += len(data)
            return data

    def get_range(self, block: BlockId, start: int, length: int) -> bytes | None:
        """Bytes ``start`` to ``start + length`` of the block (less at its end), or None."""
        data = self.get(block)
        return None if data is None else data[start : start + length]

    def contains(self, block: BlockId) -> bool:
        """Whether ``get`` would hit. Changes nothing."""
        return block in self._blocks

    def put(self, block: BlockId, data: bytes) -> None:
        """Keeps ``data``, dropping what was not used for longest; declines what is larger than the cache."""
        with self._lock:
            if len(data) != block.length or len(data) > self._capacity:
                self._counts.declined += 1
                return
            self._drop(block)
            while self._counts.bytes + len(data) > self._capacity:
                self._drop(next(iter(self._blocks)))
                self._counts.evictions += 1
            self._blocks[block] = data
            self._counts.bytes += len(data)
            self._counts.stored += 1
            self._counts.stored_bytes += len(data)

    def _drop(self, block: BlockId) -> None:
        data = self._blocks.pop(block, None)
        if data is not None:
            self._counts.bytes -= len(data)

    def statistics(self) -> CacheStatistics:
        """Counters of this process."""
        with self._lock:
            return self._counts.copy()

    def close(self) -> None:
        """Frees the memory."""
        with self._lock:
            self._blocks.clear()
            self._counts.bytes = 0
