"""A prefetcher with a store, an index, a disk cache and a kernel around it, all in this process's memory."""

from __future__ import annotations

import threading

from ossmount.config import ReadaheadSettings
from ossmount.model import Entry, Extent
from ossmount.readahead import Acquaintance, Arrivals, Attention, DatasetPlanner, Fetcher, Prefetcher
from tests.support.executors import DictCache, ImmediateExecutor, ManualExecutor
from tests.support.memory_index import MemoryIndex
from tests.support.memory_store import MemoryStore, opener

SETTINGS = ReadaheadSettings(max_requests=8)
OBJECTS = {f"c{c}/{i}": bytes([c, i]) * 50 for c in range(5) for i in range(40)}


class Kernel:
    """Takes pushes, as ``notify_store`` does, for the inodes it knows."""

    def __init__(self, unknown: frozenset[int] = frozenset()) -> None:
        self.pages: dict[int, bytes] = {}
        self.unknown = unknown
        self._lock = threading.Lock()

    def push(self, ino: int, offset: int, data: bytes) -> bool:
        with self._lock:
            if ino in self.unknown:
                return False
            assert offset == 0
            self.pages[ino] = data
            return True


class World:
    def __init__(
        self,
        executor: ManualExecutor | ImmediateExecutor | None = None,
        settings: ReadaheadSettings = SETTINGS,
        cache: DictCache | None = None,
    ) -> None:
        self.store = MemoryStore("s3://b", OBJECTS)
        self.index = MemoryIndex(
            Entry(key.encode(), Extent(self.store.id_of(key), 0, len(data)), None, 0)
            for key, data in OBJECTS.items()
        )
        self.cache, self.kernel = cache or DictCache(), Kernel()
        self.fetcher = Fetcher(opener(self.store), self.cache, settings, executor=executor)
        self.planner = DatasetPlanner(self.index, settings)
        self.arrivals = Arrivals(1, 1)
        self.attention = Attention(1)
        self.introduced: list[tuple[int, int]] = []
        self.prefetcher = Prefetcher(
            self.index,
            self.fetcher,
            self.planner,
            self.kernel.push,
            settings=settings,
            arrivals=self.arrivals,
            attention=self.attention,
            acquaintance=Acquaintance(
                self.index, lambda directory, after: self.introduced.append((directory, after)) is None
            ),
        )
        self.inos = [self.index.ino(key.encode()) for key in OBJECTS]

    def bytes_of(self, ino: int) -> bytes:
        return OBJECTS[self.index.paths[ino].decode()]
