"""The composition root of a child process: the only place that names the concrete classes of all rooms.

Everything here runs after the fork, inside the child, on one exit stack: stores, index, cache, fetcher
and file system are made for this process alone and closed in reverse order.
"""

from __future__ import annotations

import socket
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
from ossmount.index import open_index
from ossmount.readahead import Fetcher
from ossmount.stores import StorePool


@dataclass(frozen=True, slots=True)
class Plan:
    """What every child of one mount needs to compose itself: made by the supervisor, before any fork."""

    index: Path
    settings: Settings
    runtime: Path
    observations: tuple[socket.socket, socket.socket]
    """Datagram pair: workers send what was read, prefetchers receive it."""


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
    pool = StorePool(plan.settings.store)
    stack.callback(pool.close)
    cache = open_cache(plan.settings.cache, cache_directory(plan.settings.cache) / "blocks")
    stack.callback(cache.close)
    return Parts(index, pool, cache, Fetcher(pool, cache, plan.settings.readahead))


@asynccontextmanager
async def serve_worker(plan: Plan, number: int) -> AsyncIterator[FileSystem]:
    """The file system of worker ``number``, serving until the block is left."""
    with ExitStack() as stack:
        parts = compose_parts(plan, stack)
        async with trio.open_nursery() as nursery:
            await nursery.start(parts.fetcher.run)
            filesystem = FileSystem(parts.index, parts.fetcher, push=plan.settings.readahead.push)
            nursery.start_soon(publish, plan.runtime, "worker", _with_filesystem(parts, filesystem))
            yield filesystem
            nursery.cancel_scope.cancel()


def _with_filesystem(parts: Parts, filesystem: FileSystem) -> Callable[[], dict[str, Any]]:
    return lambda: parts.statistics() | {"fs": filesystem.statistics()}


async def run_prefetcher(plan: Plan, number: int) -> None:
    """Prefetcher ``number``: nothing to fetch ahead yet."""
    await trio.sleep_forever()
