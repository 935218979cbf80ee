"""The fetcher: executes plans: what is fetched now, what next, what again.

Everything here runs on the trio loop; how bytes come is :mod:`ossmount.readahead.delivery`'s. One flight per
block for all who wait; demand overtakes prefetch; requests and bytes in flight are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from itertools import islice

import trio

from ossmount.config import ReadaheadSettings
from ossmount.errors import StoreError, StoreUnavailable, Throttled
from ossmount.model import BlockId, Extent
from ossmount.protocols import BlockCache, OpenStore, Transfers
from ossmount.readahead.coalescing import Span, coalesce, cut
from ossmount.readahead.concurrency import USUAL_BYTES, ConcurrencyLimit
from ossmount.readahead.delivery import Delivery
from ossmount.readahead.flight import KERNEL_ASKS, Arrived, Failed, Flight, Landing, Settled, too_late
from ossmount.readahead.hedging import HedgePolicy
from ossmount.readahead.queues import Queues
from ossmount.readahead.recent import RECENT_BYTES, RecentBlocks
from ossmount.readahead.shelves import Shelf, Shelves
from ossmount.readahead.statistics import FetchStatistics
from ossmount.readahead.threads import Executor
from ossmount.readahead.transfer import Fetched
from ossmount.readahead.window import WindowPlan, WindowPlanner, block_around, own_window_of

WATCH_SECONDS = 0.01
"""Between two looks at what is in flight: a tenth of what a slow request costs."""

REST_SECONDS = 1.0
"""Without a request, after which the memory for them is given back: making it anew costs 0.2 ms for a MiB."""


class Fetcher:
    """Reads extents through memory, disk cache and store.

    Made inside a trio run, and belongs to it. ``memory`` is asked on the loop and must be quick (default: the
    last 16 MiB); ``cache`` in threads; ``transfers`` need none. ``shelf`` shows other processes what is read
    ahead, ``shelves`` what they have. ``executor`` is for tests.
    """

    def __init__(
        self,
        open_store: OpenStore,
        cache: BlockCache,
        settings: ReadaheadSettings,
        *,
        memory: BlockCache | None = None,
        executor: Executor | None = None,
        transfers: Transfers | None = None,
        shelf: Shelf | None = None,
        shelves: Shelves | None = None,
    ) -> None:
        self._settings = settings
        self._answer_within = settings.read_deadline / KERNEL_ASKS
        own_window = own_window_of(settings)
        self._memory = memory if memory is not None else RecentBlocks(max(RECENT_BYTES, 2 * own_window))
        self._delivery = Delivery(
            open_store, cache, settings, self._land, executor=executor, transfers=transfers, shelf=shelf
        )
        self._shelves = shelves
        self._windows = WindowPlanner(settings, own_window)
        self._flights: dict[BlockId, Flight] = {}
        self._queues = Queues()
        self._started: dict[Flight, None] = {}
        """In the air and not hedged, oldest first."""
        self._awake = trio.Event()
        self._watched, self._slowdowns = False, 0
        self._limit = ConcurrencyLimit(settings.max_requests)
        self._policy, self._count = HedgePolicy(), FetchStatistics()
        self.on_room: Callable[[], None] | None = None
        """Called on the loop when a flight has landed and there is :meth:`room`."""

    def __repr__(self) -> str:
        return f"Fetcher({self._count.in_flight}/{self._limit.limit} in flight, {self._queues})"

    def statistics(self) -> dict[str, float]:
        """The counters by name, see :class:`FetchStatistics`."""
        queued, left_out = len(self._queues), self._delivery.left_out
        return asdict(replace(self._count, queued=queued, limit=self._limit.limit, left_out=left_out))

    def fetching(self, most: int) -> list[str]:
        """Up to ``most`` keys that are being fetched, the slowest first."""
        return [flight.span.object.key for flight in islice(self._started, most)]

    def throttled(self) -> None:
        """A store asked for fewer requests; from any thread, heeded when the next flight lands."""
        self._slowdowns += 1

    def room(self) -> int:
        """How many more blocks :meth:`prefetch` could start at once."""
        taken = self._count.in_flight + len(self._queues)
        full = self._delivery.full or self._bytes >= self._settings.max_bytes
        return 0 if full else max(0, self._most - self._reserve - taken)

    def close(self) -> None:
        """Lets the threads end. Flights that are under way are not waited for."""
        self._delivery.close()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hedges slow requests until cancelled; then closes. Reads work without it, unhedged."""
        self._watched = True
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._delivery.attend, lambda: self._ahead_only)
                task_status.started()
                await self._watch()
        finally:
            self._watched = False
            self.close()

    async def _watch(self) -> None:
        while True:
            idle = self._idle
            self._go_on()  # what stood in the way may have gone in a thread, which nobody else tells
            if idle and self._idle:
                self._awake = trio.Event()
                with trio.move_on_after(REST_SECONDS):
                    await self._awake.wait()
                if self._idle:
                    self._delivery.rest()
                await self._awake.wait()
            await trio.sleep(WATCH_SECONDS)
            self._delivery.work()
            self._hedge()

    def _hedge(self) -> None:
        """Asks a second time for what takes longer than the 95th percentile, oldest first."""
        now = trio.current_time()
        for flight in list(self._started):
            slow = self._policy.slow_after(flight.length)
            if slow is None or now - flight.started <= slow:
                continue
            if self._count.in_flight >= self._limit.limit or not self._policy.spend():
                return
            del self._started[flight]
            self._count.hedges += 1
            self._start(flight, hedge=True)

    async def read(self, extent: Extent, offset: int, size: int) -> bytes:
        """The bytes ``[offset, offset + size)`` of ``extent``, clamped to its length.

        Raises StoreError; DeadlineExceeded when half of ``read_deadline`` passes first (KERNEL_ASKS).
        """
        size = min(size, extent.length - offset)
        self._count.reads += 1
        if size <= 0:
            await trio.lowlevel.checkpoint_if_cancelled()
            return b""
        self._count.bytes_read += size
        if extent.length <= self._settings.small_file:
            data = await self._block(extent.block)
            return data[offset : offset + size]
        deadline = trio.current_time() + self._answer_within
        plan = self._windows.plan(extent, offset, size)
        with trio.move_on_at(deadline):
            if self._shelves is not None and (found := await self._shelves.read(extent, offset, size)):
                return found
        for part in plan.parts:
            self.queue(part)
        pieces = await self._gather(extent, plan, deadline)
        return cut(pieces, extent.offset + offset, extent.offset + offset + size)

    def read_nowait(self, extent: Extent, offset: int, size: int) -> bytes | memoryview | None:
        """As :meth:`read`, of a small file that is in memory or soon is, until the next call; else None."""
        size = min(size, extent.length - offset)
        if extent.length > self._settings.small_file or size <= 0:
            return None
        data: bytes | memoryview | None = self.at_hand(block := extent.block)
        if data is not None:
            self._count.memory_hits += 1
        elif block in self._flights or (data := self._delivery.at_hand(block)) is None:
            return None
        else:
            self._count.cache_hits += 1
            if size < block.length:  # the rest will be asked for
                self._memory.put(block, bytes(data))
        self._count.reads += 1
        self._count.bytes_read += size
        return data if size == block.length else data[offset : offset + size]

    def at_hand(self, block: BlockId) -> bytes | None:
        """The block if it is in memory."""
        return self._memory.get(block)

    def caches(self, extent: Extent) -> bool:
        """Whether the disk cache has all of it, as it has small files."""
        return extent.length <= self._settings.small_file and self._delivery.caches(extent.block)

    def bring_near(self, blocks: Sequence[BlockId]) -> Sequence[bool]:
        """Which of ``blocks`` the disk cache has; the kernel begins to read those ahead."""
        return self._delivery.bring_near(blocks)

    def under_way(self, block: BlockId) -> bool:
        """Whether the block is queued or being fetched."""
        return block in self._flights

    async def _block(self, block: BlockId) -> bytes:
        if (data := self.at_hand(block)) is not None:
            self._count.memory_hits += 1
            await trio.lowlevel.checkpoint_if_cancelled()
            return data
        flight = self._join(block) or self._launch(Span((block,)), demand=True)
        self._dispatch()
        return (await self._in_time(flight, block, trio.current_time() + self._answer_within)).pieces[block]

    async def _gather(self, extent: Extent, plan: WindowPlan, deadline: float) -> dict[BlockId, bytes]:
        """The wanted blocks, or longer ones around them, that are at hand, on their way, or fetched now."""
        pieces: dict[BlockId, bytes] = {}
        flights: dict[BlockId, Flight] = {}
        missing: dict[BlockId | None, list[BlockId]] = {}
        for block in plan.wanted:
            around = block_around(extent, block, self._settings.block_size) if plan.sub else None
            if not any(self._find(b, pieces, flights) for b in (block, around) if b is not None):
                missing.setdefault(around, []).append(block)
        for around, blocks in missing.items():
            for span in coalesce(blocks, self._settings.part_size):
                flight = self._launch(Span(span.blocks, around), demand=True)
                flights.update(dict.fromkeys(span.blocks, flight))
        self._dispatch()
        for block, flight in flights.items():
            pieces[block] = (await self._in_time(flight, block, deadline)).pieces[block]
        return pieces

    def _find(self, block: BlockId, pieces: dict[BlockId, bytes], flights: dict[BlockId, Flight]) -> bool:
        """Adds ``block`` to what it can be had from without a new request; False where there is none."""
        if block in pieces or block in flights:
            return True
        if (data := self.at_hand(block)) is not None:
            self._count.memory_hits += 1
            pieces[block] = data
        elif (flight := self._join(block)) is not None:
            flights[block] = flight
        else:
            return False
        return True

    async def _in_time(self, flight: Flight, block: BlockId, deadline: float) -> Fetched:
        began = trio.current_time()
        try:
            with trio.move_on_at(deadline):
                return await flight.wait()
        finally:
            self._count.wait_seconds += trio.current_time() - began
        self._count.deadlines += 1
        raise too_late(block, self._answer_within)

    def prefetch(
        self,
        blocks: Iterable[BlockId],
        arrived: Arrived | None = None,
        settled: Settled | None = None,
    ) -> int:
        """Queues blocks that a program may want soon; returns how many were not under way already.

        Does not wait, and never raises: a prefetch that fails is counted. ``arrived`` is called in a
        worker thread with each block, ``settled`` when it was offered to the cache or has failed; neither
        for blocks that were under way.
        """
        queued = self.queue(blocks, arrived, settled)
        self._dispatch()
        return queued

    def queue(
        self,
        blocks: Iterable[BlockId],
        arrived: Arrived | None = None,
        settled: Settled | None = None,
        *,
        failed: Failed | None = None,
        urgent: bool = False,
        absent: bool = False,
    ) -> int:
        """As :meth:`prefetch`, started with its next call; ``urgent``: first, ``absent``: not on disk."""
        wanted = [b for b in blocks if b not in self._flights and self.at_hand(b) is None]
        for span in coalesce(wanted, self._settings.part_size):
            flight = self._launch(span, demand=urgent, arrived=arrived)
            flight.settled, flight.failed, flight.absent = settled, failed, absent
        self._count.prefetched += len(wanted)
        return len(wanted)

    def _join(self, block: BlockId) -> Flight | None:
        """The flight that brings ``block``; one that was queued for later is now wanted at once."""
        flight = self._flights.get(block)
        if flight is None or flight.poured is not None:
            return None
        self._count.shared += 1
        self._queues.hasten(flight)
        return flight

    def _launch(self, span: Span, *, demand: bool, arrived: Arrived | None = None) -> Flight:
        flight = Flight(span, demand, arrived)
        for block in span.blocks:
            self._flights[block] = flight
        self._queues.add(flight)
        return flight

    def _dispatch(self) -> None:
        """Starts as many queued flights as the limits allow, demand first."""
        for flight in self._queues.take(self._fits):
            self._start(flight)

    @property
    def _reserve(self) -> int:
        """Requests that prefetch leaves free for demand, in a process that answers programs at all."""
        return self._limit.limit // 4 if self._count.reads else 0

    def _fits(self, flight: Flight) -> bool:
        reserve = 0 if flight.demand else self._reserve
        within = self._bytes + flight.length <= self._settings.max_bytes
        return self._bytes == 0 or (within and self._count.in_flight < self._most - reserve)

    @property
    def _idle(self) -> bool:
        return self._bytes == 0 and not self._delivery.full

    @property
    def _bytes(self) -> int:
        """Asked for and not landed, or held and not passed on."""
        return self._count.bytes_in_flight + self._delivery.held

    @property
    def _ahead_only(self) -> bool:
        """Whether this process has answered no program and is watched: nobody waits for its loop."""
        return self._watched and not self._count.reads

    @property
    def _most(self) -> int:
        """Requests that may be handed over; more than there are threads makes a backlog."""
        return self._limit.with_backlog if self._ahead_only else self._limit.limit

    def _start(self, flight: Flight, *, hedge: bool = False) -> None:
        flight.attempts += 1
        self._count.in_flight += 1
        self._count.bytes_in_flight += flight.length
        if not hedge:
            flight.started = trio.current_time()
            self._started[flight] = None
        self._awake.set()
        patience = self._limit.patience if self._ahead_only else 1
        self._delivery.bring(flight, hedge=hedge, patience=patience)

    def _land(self, landings: Iterable[Landing]) -> None:
        for landing in landings:
            self._take_in(landing)
        self._go_on()

    def _go_on(self) -> None:
        self._dispatch()
        if self.on_room is not None and self.room() > 0:
            self.on_room()

    def _take_in(self, landing: Landing) -> None:
        flight, result, hedge = landing
        flight.attempts -= 1
        self._count.in_flight -= 1
        self._count.bytes_in_flight -= flight.length
        self._learn(flight, result, hedge)
        another = flight.attempts > 0 and isinstance(result, StoreUnavailable)
        if not flight.landed and not another:
            self._count.hedges_won += hedge
            self._settle(flight, result)

    def _learn(self, flight: Flight, result: Fetched | StoreError, hedge: bool) -> None:
        """Latency and throttling, as far as the store had a part in them."""
        if isinstance(result, Throttled):
            self.throttled()
        if self._slowdowns:
            self._count.throttled += self._slowdowns
            self._slowdowns = 0
            self._limit.throttled()
        if isinstance(result, Fetched) and result.requests and not hedge:
            seconds = trio.current_time() - flight.started
            self._policy.finished(flight.length, seconds)
            if flight.length <= USUAL_BYTES:
                self._limit.succeeded(seconds, self._count.in_flight + 1)

    def _settle(self, flight: Flight, result: Fetched | StoreError) -> None:
        self._started.pop(flight, None)
        for block in flight.span.blocks:
            if self._flights.get(block) is flight:  # not where a reader could not wait for it
                del self._flights[block]
        if isinstance(result, StoreError):
            self._count.errors += 1
            flight.give_up()
        else:
            self._count.took(result.requests, len(result.pieces), [b.length for b in result.fresh])
            if flight.demand or self._count.reads:  # a prefetcher reads nothing: the kernel has its bytes
                for block, data in result.pieces.items():
                    self._memory.put(block, bytes(data))
        flight.land(result)
