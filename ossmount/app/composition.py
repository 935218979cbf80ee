"""The composition root of a child process: the only place that names the concrete classes of all rooms.

:func:`plan_mount` makes what all children share, before the fork. Everything else here runs after it, inside
the child, on one exit stack: stores, index, cache, fetcher and file system are made for this process alone
and closed in reverse order.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from ossmount.app.cache_place import cache_directory
from ossmount.app.exporter import open_listener, serve_metrics
from ossmount.app.publishing import publish
from ossmount.app.shared_level import SharedLevel
from ossmount.app.tracing import Traced, TracedReading, Tracer, open_tracer
from ossmount.cache.disk import DiskCache
from ossmount.cache.layered import AnyCache, LayeredCache, open_cache
from ossmount.cache.memory import MemoryCache, NullCache
from ossmount.config import Settings
from ossmount.fs import FileSystem, Succession
from ossmount.fuse import pages
from ossmount.fuse.introducing import Introductions
from ossmount.index import LmdbIndex, open_index
from ossmount.model import BlockId
from ossmount.protocols import Index, ObjectStore
from ossmount.readahead import (
    Acquaintance,
    Acquaintances,
    Arrivals,
    Attention,
    DatasetPlanner,
    Fetcher,
    Observer,
    Prefetcher,
    Warming,
    observation_pipe,
)
from ossmount.readahead.arrivals import ArrivalWaits
from ossmount.readahead.shelves import Shelves
from ossmount.readahead.window import own_window_of
from ossmount.stores import Address, Pace, Paced, Resolving, StorePool
from ossmount.stores.transfers import RangeTransfers

PUSHED_ONLY_BUDGET = 1 << 30
"""Bytes read ahead where there is no disk cache to hold them: the page cache is all there is."""

MOST_PUSHED = 4 << 30
"""Bytes pushed and not opened yet, and at most half of what the machine and the control group have left."""

PREPARED_STORES = 4
"""Stores opened before they are asked for; an object list may name hundreds."""


SHOWN_KEYS = 4
"""Keys being fetched that each process tells ``ossmount stats --watch``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every child of one mount needs to compose itself: made by the supervisor, before any fork."""

    index: Path
    settings: Settings
    runtime: Path
    observations: tuple[tuple[int, int], ...]
    """A pipe (reading end, writing end) for each prefetcher: workers write what programs do."""
    level: SharedLevel
    arrivals: Arrivals
    """What prefetchers have on its way: an OPEN waits for it."""
    attention: Attention
    """Whether prefetchers need to hear of every open at once."""
    shelves: Shelves
    """What prefetchers have of large files, for READs that come too early."""
    introductions: Introductions
    """Whether prefetchers introduce files to the kernel, so that listings need not."""
    acquaintances: Acquaintances
    """Which files they have introduced."""
    metrics: socket.socket | None
    """Where Prometheus asks; worker 0 answers."""

    previous: Path | None = None
    """The generation before ``index``, for what programs have open across a swap."""
    requests: Pace | None = None
    bandwidth: Pace | None = None
    """The caps that all children keep together."""
    addresses: Mapping[str, Address] = field(default_factory=dict)
    """Where the stores are, by root URI, as far as it was found out before the fork."""

    @property
    def observer(self) -> Observer | None:
        """A new way to tell the prefetchers; None where there are none."""
        if not self.observations:
            return None
        return Observer(*(writing for _, writing in self.observations), attention=self.attention)


def plan_mount(index: Path, settings: Settings, runtime: Path, mountpoint: Path | None = None) -> Plan:
    """The plan of a mount, with a pipe for each prefetcher that its settings ask for.

    ``mountpoint``: where prefetchers will be able to list it, if anywhere.

    Raises SettingsError where the address for metrics cannot be used.
    """
    readahead = settings.readahead
    count = 0 if readahead.readahead in {"off", "file"} else readahead.prefetchers
    address = settings.observability.metrics_listen
    metrics = None if address is None else open_listener(address)
    pipes = tuple(observation_pipe() for _ in range(count))
    level = SharedLevel(settings.mount.log_level)
    store = settings.store
    return Plan(
        index,
        settings,
        runtime,
        pipes,
        level,
        Arrivals(settings.mount.workers, count),
        Attention(count),
        Shelves(count, readahead.block_size),
        Introductions(count if readahead.push else 0, mountpoint),
        Acquaintances(),
        metrics,
        requests=Pace(store.max_request_rate) if store.max_request_rate > 0 else None,
        bandwidth=Pace(store.max_bandwidth) if store.max_bandwidth > 0 else None,
    )


@dataclass(slots=True)
class Parts:
    """The rooms of one child."""

    index: Any
    pool: StorePool
    cache: AnyCache
    fetcher: Fetcher
    tracer: Tracer | None

    def statistics(self) -> dict[str, Any]:
        """Every room's counters by room."""
        memory, disk = layers_of(self.cache)
        return {
            "store": self.pool.statistics(),
            "store_details": self.pool.details(),
            "cache": asdict(self.cache.statistics()),
            "disk": asdict(disk.statistics()),
            "memory": {} if memory is None else asdict(memory.statistics()),
            "fetcher": self.fetcher.statistics(),
            "fetching": self.fetcher.fetching(SHOWN_KEYS),
            "pages": pages.statistics(),
        }

    def on_disk(self, block: BlockId) -> bool:
        """Whether the disk cache has the block."""
        return layers_of(self.cache)[1].contains(block)


def compose_parts(plan: Plan, stack: ExitStack, *, prefetcher: int | None = None) -> Parts:
    """Opens index, stores and cache, and makes the fetcher; ``stack`` closes them.

    ``prefetcher``: which it is, if it is one: it lets others' requests go first where their rate is capped.
    """
    ahead = prefetcher is not None
    index = open_index(plan.index)
    stack.callback(index.close)
    tracer = open_tracer()
    pool = StorePool(
        plan.settings.store,
        deadline=plan.settings.readahead.read_deadline,
        wrap=lambda store: _wrapped(store, plan, tracer, ahead),
        opened=partial(_tell_address, plan),
    )
    stack.callback(pool.close)
    cache = open_cache(plan.settings.cache, cache_directory(plan.settings.cache) / "blocks")
    stack.callback(cache.close)
    memory, disk = layers_of(cache)
    transfers = RangeTransfers(pool.find, plan.settings.store)
    fetcher = Fetcher(
        pool,
        disk,
        plan.settings.readahead,
        memory=memory,
        transfers=transfers,
        shelf=None if prefetcher is None else plan.shelves.shelf(prefetcher),
        shelves=plan.shelves if plan.observations else None,
    )
    pool.on_throttled = fetcher.throttled
    return Parts(index, pool, cache, fetcher, tracer)


def _tell_address(plan: Plan, store: ObjectStore) -> None:
    if isinstance(store, Resolving) and (address := plan.addresses.get(store.uri)) is not None:
        store.use_address(address)


def _wrapped(store: ObjectStore, plan: Plan, tracer: Tracer | None, ahead: bool) -> ObjectStore:
    """The store with what this mount asks of every request."""
    traced = store if tracer is None else Traced(store, tracer)
    if plan.requests is None and plan.bandwidth is None:
        return traced
    return Paced(traced, plan.requests, plan.bandwidth, patient=ahead)


def layers_of(cache: AnyCache) -> tuple[MemoryCache | None, DiskCache | NullCache]:
    """The two layers apart: the fetcher looks into memory on its loop and into the disk cache in threads."""
    if isinstance(cache, LayeredCache):
        return cache.memory, cache.disk
    if isinstance(cache, MemoryCache):
        return cache, NullCache()
    return None, cache


async def prepare_stores(parts: Parts) -> None:
    """Makes the store clients while nobody waits for them yet."""
    await trio.to_thread.run_sync(parts.pool.prepare, parts.index.info().stores[:PREPARED_STORES])


@asynccontextmanager
async def serve_worker(plan: Plan, number: int) -> AsyncIterator[FileSystem]:
    """The file system of worker ``number``, serving until the block is left."""
    with ExitStack() as stack:
        parts = compose_parts(_with_window(plan), stack)
        tree = _with_previous(parts.index, plan, stack)
        reading = parts.fetcher if parts.tracer is None else TracedReading(parts.fetcher, parts.tracer)
        push = plan.settings.readahead.push
        waits = plan.arrivals.waits_of(number, plan.settings.readahead.small_file)
        observer = plan.observer
        filesystem = FileSystem(
            tree, reading, observer=observer, push=push, arrival=waits.wait_for, reopens=plan.arrivals.reopens
        )
        counters = _counters_of_worker(plan, parts, filesystem, waits, observer)
        async with trio.open_nursery() as nursery:
            await nursery.start(parts.fetcher.run)
            await nursery.start(waits.run)
            nursery.start_soon(prepare_stores, parts)
            nursery.start_soon(publish, plan.runtime, "worker", counters, plan.level.apply)
            if plan.metrics is not None and number == 0:
                nursery.start_soon(serve_metrics, plan.metrics, plan.runtime / "stats")
            yield filesystem
            nursery.cancel_scope.cancel()


def _with_previous(index: Index, plan: Plan, stack: ExitStack) -> Index:
    """The tree of a worker: after a swap it still knows what is open of the generation before."""
    if plan.previous is None:
        return index
    previous = open_index(plan.previous)
    stack.callback(previous.close)
    return Succession(index, previous)


def _counters_of_worker(
    plan: Plan, parts: Parts, filesystem: FileSystem, waits: ArrivalWaits, observer: Observer | None
) -> Callable[[], dict[str, Any]]:
    """What a worker publishes: its rooms' counters, and what it knows of the index."""
    info = parts.index.info()
    index = {
        "generation": info.generation,
        "created": info.created,
        "files": info.files,
        "bytes": info.total_bytes,
    }

    def counters() -> dict[str, Any]:
        if observer is not None:
            observer.flush()  # what prefetchers count is no older than what workers publish
        own = {
            "errors": filesystem.statistics(),
            "fs": filesystem.served(),
            "arrivals": waits.statistics(),
            "shelves": plan.shelves.statistics(),
            "index": index,
        }
        return parts.statistics() | own

    return counters


def _without_memory(plan: Plan) -> Plan:
    """For a prefetcher: it answers no program, so what it keeps in memory would be kept for nobody."""
    return _with_memory(plan, 0)


def _with_window(plan: Plan) -> Plan:
    """For a worker: where it reads ahead itself, what it read ahead must still be there when it is read."""
    memory = plan.settings.cache.memory_cache
    return _with_memory(plan, memory and max(memory, 2 * own_window_of(plan.settings.readahead)))


def _with_memory(plan: Plan, size: int) -> Plan:
    cache = replace(plan.settings.cache, memory_cache=size)
    return replace(plan, settings=replace(plan.settings, cache=cache))


def _acquaintance(plan: Plan, index: LmdbIndex, share: tuple[int, int]) -> Acquaintance | None:
    """How a prefetcher introduces files to the kernel, if it can."""
    introducer = plan.introductions.introducer(share[0])
    if introducer is None:
        return None

    def introduce(directory: int, after: int) -> bool:
        return introducer.introduce(index.path_of(directory), directory, after)

    return Acquaintance(index, introduce, plan.acquaintances, share)


async def run_prefetcher(plan: Plan, number: int) -> None:
    """Prefetcher ``number``: plans from the workers' observations, fetches, and pushes to the kernel."""
    share = (number, len(plan.observations))
    with ExitStack() as stack:
        parts = compose_parts(_without_memory(plan), stack, prefetcher=number)
        settings = plan.settings.readahead
        budget = plan.settings.cache.cache_size or PUSHED_ONLY_BUDGET
        planner = DatasetPlanner(parts.index, settings, budget=budget, share=share)
        warming = Warming(parts.index, parts.fetcher, parts.on_disk, settings, share)
        prefetcher = Prefetcher(
            parts.index,
            parts.fetcher,
            planner,
            pages.push,
            settings=settings,
            push_budget=min(MOST_PUSHED, pages.available_memory() // 2),
            share=share,
            warming=warming,
            arrivals=plan.arrivals,
            attention=plan.attention,
            pages=plan.shelves.pages(number),
            acquaintance=_acquaintance(plan, parts.index, share),
        )
        stack.callback(prefetcher.close)

        def counters() -> dict[str, Any]:
            own = {"prefetcher": prefetcher.statistics(), "warm": warming.statistics()}
            return parts.statistics() | own

        async with trio.open_nursery() as nursery:
            await nursery.start(parts.fetcher.run)
            nursery.start_soon(prepare_stores, parts)
            nursery.start_soon(publish, plan.runtime, "prefetcher", counters, plan.level.apply)
            await prefetcher.run(plan.observations[number][0])
            nursery.cancel_scope.cancel()
