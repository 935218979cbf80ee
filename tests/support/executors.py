"""Executors for tests of the fetcher: jobs run when the test says so, on the trio loop's own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ossmount.model import BlockId

Job = Callable[[], None]


class ManualExecutor:
    """Holds jobs until ``run`` or ``run_all``: what is "on its way" is then exactly what a test wants."""

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.submitted = 0
        self.closed = False

    def submit(self, job: Job) -> None:
        self.submitted += 1
        self.jobs.append(job)

    def run(self, position: int = 0) -> None:
        """Runs the job that was submitted ``position``-th of those that wait."""
        job = self.jobs[position]
        del self.jobs[position]
        job()

    def run_all(self) -> None:
        while self.jobs:
            self.run()

    def close(self) -> None:
        self.closed = True


class ImmediateExecutor:
    """Runs a job at once, inside ``submit``."""

    def submit(self, job: Job) -> None:
        job()

    def close(self) -> None:
        pass


class DictCache:
    """A block cache without a limit that counts."""

    def __init__(self) -> None:
        self.blocks: dict[object, bytes] = {}
        self.gets = 0
        self.puts = 0

    def get(self, block: object) -> bytes | None:
        self.gets += 1
        return self.blocks.get(block)

    def put(self, block: object, data: bytes) -> None:
        self.puts += 1
        self.blocks[block] = data

    def close(self) -> None:
        self.blocks.clear()


class NearCache(DictCache):
    """A disk cache whose blocks are in memory once they were read ahead, or read."""

    def __init__(self) -> None:
        super().__init__()
        self.near: set[BlockId] = set()

    def get_range(self, block: BlockId, start: int, length: int) -> bytes | None:
        data = self.get(block)
        return None if data is None else data[start : start + length]

    def contains(self, block: BlockId) -> bool:
        return block in self.blocks

    def get_resident(self, block: BlockId) -> bytes | None:
        return self.blocks[block] if block in self.near else None

    def reading_ahead(self, blocks: Sequence[BlockId]) -> tuple[Sequence[bool], Callable[[], None]]:
        has = [block in self.blocks for block in blocks]
        return has, lambda: self.near.update(block for block in blocks if block in self.blocks)
