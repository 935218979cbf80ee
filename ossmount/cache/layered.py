"""Memory before disk, and the choice of caches from the settings: what ``app`` calls in every process."""

from __future__ import annotations

import logging
from pathlib import Path

from ossmount.cache.disk import DiskCache
from ossmount.cache.memory import MemoryCache, NullCache
from ossmount.cache.statistics import CacheStatistics
from ossmount.config import CacheSettings
from ossmount.errors import CacheError
from ossmount.model import BlockId

_log = logging.getLogger(__name__)


class LayeredCache:
    """A cache in front of another. ``get`` promotes, ``put`` writes to both."""

    def __init__(self, memory: MemoryCache, disk: DiskCache) -> None:
        self.memory = memory
        self.disk = disk

    def __repr__(self) -> str:
        return f"LayeredCache({self.memory!r}, {self.disk!r})"

    def get(self, block: BlockId) -> bytes | None:
        """The block's bytes from memory, else from disk."""
        data = self.memory.get(block)
        if data is None:
            data = self.disk.get(block)
            if data is not None:
                self.memory.put(block, data)
        return data

    def get_range(self, block: BlockId, start: int, length: int) -> bytes | None:
        """A part of the block. Not promoted: who reads parts at random seldom reads the same again."""
        if self.memory.contains(block):
            data = self.memory.get_range(block, start, length)
            if data is not None:
                return data
        return self.disk.get_range(block, start, length)

    def contains(self, block: BlockId) -> bool:
        """Whether either has the block."""
        return self.memory.contains(block) or self.disk.contains(block)

    def put(self, block: BlockId, data: bytes) -> None:
        """Offers ``data`` to both."""
        self.memory.put(block, data)
        self.disk.put(block, data)

    def statistics(self) -> CacheStatistics:
        """Both together: a hit in either is a hit, a miss in the disk cache a miss; the rest is the disk's.

        The parts are ``memory.statistics()`` and ``disk.statistics()``.
        """
        memory, total = self.memory.statistics(), self.disk.statistics()
        total.hits += memory.hits
        total.hit_bytes += memory.hit_bytes
        return total

    def close(self) -> None:
        """Closes both."""
        self.memory.close()
        self.disk.close()


AnyCache = NullCache | MemoryCache | DiskCache | LayeredCache


def check_cache(settings: CacheSettings, directory: Path) -> None:
    """Proves that the disk cache can be used, before anything is mounted. Raises CacheError."""
    if settings.cache_size > 0:
        DiskCache(directory, settings.cache_size).close()


def open_cache(settings: CacheSettings, directory: Path) -> AnyCache:
    """The cache of this process (after the fork).

    A directory that cannot be used is logged and done without.
    """
    memory = MemoryCache(settings.memory_cache) if settings.memory_cache > 0 else None
    disk = None
    if settings.cache_size > 0:
        try:
            disk = DiskCache(directory, settings.cache_size)
        except CacheError as error:
            _log.warning("%s; going on without the disk cache", error)
    if memory is not None and disk is not None:
        return LayeredCache(memory, disk)
    return disk or memory or NullCache()
