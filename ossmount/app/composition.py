"""The composition root of a child process: the only place that names the concrete classes of all rooms.

Everything here runs after the fork, inside the child, on one exit stack: stores, index, cache, fetcher
and file system are made for this process alone and closed in reverse order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from ossmount.app.indexes import cache_directory
from ossmount.app.statistics import publish
from ossmount.cache.layered import open_cache
from ossmount.config import Settings
from ossmount.fs import FileSystem
from ossmount.fuse import pages
from ossmount.index import open_index
from ossmount.readahead import DatasetPlanner, Fetcher, Observer, Prefetcher, observation_pipe
from ossmount.stores import StorePool

PUSHED_ONLY_BUDGET = 1 << 30
"""Bytes read ahead where there is no disk cache to hold them: the page cache is all there is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every child of one mount needs to compose itself: made by the supervisor, before any fork."""

    index: Path
    settings: Settings
    runtime: Path
    observations: tuple[tuple[int, int], ...]
    """A pipe (reading end, writing end) for each prefetcher: workers write what programs do."""


def plan_mount(index: Path, settings: Settings, runtime: Path) -> Plan:
    """The plan of a mount, with a pipe for each prefetcher that its settings ask for."""
    readahead = settings.readahead
    count = 0 if readahead.readahead in {"off", "file"} else readahead.prefetchers
    return Plan(index, settings, runtime, tuple(observation_pipe() for _ in range(count)))


@dataclass(slots=True)
class Parts:
    """The rooms of one child."""

    index: Any
    pool: StorePool
    cache: Any
    fetcher: Fetcher

    def statistics(self) -> dict[str, Any]:
        """Every room's counters by room."""
        return {
            "store": self.pool.statistics(),
            "cache": asdict(self.cache.statistics()),
            "fetcher": self.fetcher.statistics(),
        }


def compose_parts(plan: Plan, stack: ExitStack) -> Parts:
    """Opens index, stores and cache, and makes the fetcher; ``stack`` closes them."""
    index = open_index(plan.index)
    stack.callback(index.close)
    pool = StorePool(plan.settings.store, deadline=plan.settings.readahead.read_deadline)
    stack.callback(pool.close)
    cache = open_cache(plan.settings.cache, cache_directory(plan.settings.cache) / "blocks")
    stack.callback(cache.close)
    return Parts(index, pool, cache, Fetcher(pool, cache, plan.settings.readahead))


@asynccontextmanager
async def serve_worker(plan: Plan, number: int) -> AsyncIterator[FileSystem]:
    """The file system of worker ``number``, serving until the block is left."""
    with ExitStack() as stack:
        parts = compose_parts(plan, stack)
        observer = Observer(*(writing for _, writing in plan.observations)) if plan.observations else None
        filesystem = FileSystem(
            parts.index, parts.fetcher, observer=observer, push=plan.settings.readahead.push
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(parts.fetcher.run)
            nursery.start_soon(publish, plan.runtime, "worker", _with_filesystem(parts, filesystem))
            yield filesystem
            nursery.cancel_scope.cancel()


def _with_filesystem(parts: Parts, filesystem: FileSystem) -> Callable[[], dict[str, Any]]:
    return lambda: parts.statistics() | {"errors": filesystem.statistics()}


async def run_prefetcher(plan: Plan, number: int) -> None:
    """Prefetcher ``number``: plans from the workers' observations, fetches, and pushes to the kernel."""
    share = (number, len(plan.observations))
    with ExitStack() as stack:
        parts = compose_parts(plan, stack)
        settings = plan.settings.readahead
        budget = plan.settings.cache.cache_size or PUSHED_ONLY_BUDGET
        planner = DatasetPlanner(parts.index, settings, budget=budget, share=share)
        prefetcher = Prefetcher(
            parts.index, parts.fetcher, planner, pages.push, settings=settings, share=share
        )

        def counters() -> dict[str, Any]:
            return parts.statistics() | {"prefetcher": prefetcher.statistics()}

        async with trio.open_nursery() as nursery:
            await nursery.start(parts.fetcher.run)
            nursery.start_soon(publish, plan.runtime, "prefetcher", counters)
            await prefetcher.run(plan.observations[number][0])
            nursery.cancel_scope.cancel()
