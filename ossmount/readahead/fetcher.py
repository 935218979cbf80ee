"""The fetcher: executes plans. The one place where blocking calls, threads and the trio loop meet.

Everything here runs on the trio loop but :meth:`Fetcher._perform`, which runs in a worker thread. One
flight per block for all who wait; demand overtakes prefetch; requests and bytes in flight are bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import NamedTuple

import trio

from ossmount.config import ReadaheadSettings
from ossmount.errors import DeadlineExceeded, StoreError, StoreUnavailable
from ossmount.model import BlockId, Extent
from ossmount.protocols import BlockCache, OpenStore
from ossmount.readahead.coalescing import Span, coalesce
from ossmount.readahead.flight import Arrived, Flight
from ossmount.readahead.recent import RecentBlocks
from ossmount.readahead.statistics import FetchStatistics
from ossmount.readahead.threads import Executor, Mailbox, ThreadPool
from ossmount.readahead.transfer import Fetched, Transfer

SPARE_THREADS = 16
"""Threads above ``max_requests``: a thread still writes to the disk cache after its request has ended."""


class _Landing(NamedTuple):
    """What a worker thread posts."""

    flight: Flight
    result: Fetched | StoreError
    hedge: bool


class Fetcher:
    """Reads extents through memory, disk cache and store.

    Must be made inside a trio run and belongs to that run. ``memory`` is asked on the loop and must be
    quick (default: the last 64 MiB); ``cache`` is asked in threads. ``executor`` is there for tests.
    """

    def __init__(
        self,
        open_store: OpenStore,
        cache: BlockCache,
        settings: ReadaheadSettings,
        *,
        memory: BlockCache | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._settings = settings
        self._memory = memory if memory is not None else RecentBlocks()
        self._transfer = Transfer(open_store, cache)
        self._executor = executor or ThreadPool(settings.max_requests + SPARE_THREADS)
        self._mailbox: Mailbox[_Landing] = Mailbox(self._land)
        self._flights: dict[BlockId, Flight] = {}
        self._demand: deque[Flight] = deque()
        self._ahead: dict[Flight, None] = {}
        self._count = FetchStatistics(limit=settings.max_requests)
        self.on_room: Callable[[], None] | None = None
        """Called on the loop when a flight has landed and :meth:`room` is above 0."""

    def __repr__(self) -> str:
        c = self._count
        return f"Fetcher({c.in_flight}/{c.limit} in flight, {len(self._demand)}+{len(self._ahead)} queued)"

    def statistics(self) -> dict[str, int]:
        """The counters by name, see :class:`FetchStatistics`."""
        return asdict(replace(self._count, queued=len(self._demand) + len(self._ahead)))

    def room(self) -> int:
        """How many more blocks :meth:`prefetch` could start at once."""
        if self._count.bytes_in_flight >= self._settings.max_bytes:
            return 0
        taken = self._count.in_flight + len(self._demand) + len(self._ahead)
        return max(0, self._count.limit - self._reserve - taken)

    def close(self) -> None:
        """Lets the threads end. Flights that are under way are not waited for."""
        self._executor.close()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watches over what is in flight until cancelled; then closes. Reads work without it."""
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.close()

    async def read(self, extent: Extent, offset: int, size: int) -> bytes:
        """The bytes ``[offset, offset + size)`` of ``extent``, clamped to its length.

        Raises StoreError; DeadlineExceeded when ``read_deadline`` passes first.
        """
        size = min(size, extent.length - offset)
        self._count.reads += 1
        if size <= 0:
            await trio.lowlevel.checkpoint_if_cancelled()
            return b""
        self._count.bytes_read += size
        if extent.length <= self._settings.small_file:
            data = await self._block(BlockId(extent.object, extent.offset, extent.length))
            return data if size == extent.length else data[offset : offset + size]
        blocks = blocks_of(extent, offset, size, self._settings.block_size)
        return await self._assemble(extent, blocks, offset, size)

    def at_hand(self, block: BlockId) -> bytes | None:
        """The block if it is in memory."""
        return self._memory.get(block)

    async def _block(self, block: BlockId) -> bytes:
        """The hot path: one block."""
        data = self.at_hand(block)
        if data is not None:
            self._count.memory_hits += 1
            await trio.lowlevel.checkpoint_if_cancelled()
            return data
        flight = self._join(block) or self._launch(Span((block,)), demand=True)
        self._dispatch()
        return (await self._in_time(flight, block)).pieces[block]

    async def _assemble(self, extent: Extent, blocks: Sequence[BlockId], offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` within ``extent`` out of ``blocks``, which cover them."""
        pieces: dict[BlockId, bytes] = {}
        flights: dict[BlockId, Flight] = {}
        missing = []
        for block in blocks:
            if (data := self.at_hand(block)) is not None:
                self._count.memory_hits += 1
                pieces[block] = data
            elif (flight := self._join(block)) is not None:
                flights[block] = flight
            else:
                missing.append(block)
        for span in coalesce(missing, self._settings.part_size):
            flights.update(dict.fromkeys(span.blocks, self._launch(span, demand=True)))
        self._dispatch()
        for block, flight in flights.items():
            pieces[block] = (await self._in_time(flight, block)).pieces[block]
        start = extent.offset + offset - blocks[0].offset
        if len(blocks) == 1:
            return pieces[blocks[0]][start : start + size]
        return b"".join(pieces[block] for block in blocks)[start : start + size]

    async def _in_time(self, flight: Flight, block: BlockId) -> Fetched:
        with trio.move_on_after(self._settings.read_deadline):
            return await flight.wait()
        self._count.deadlines += 1
        raise DeadlineExceeded(
            f"{block.object.store}/{block.object.key}: no answer within {self._settings.read_deadline:g} s",
            "check the network and the endpoint, or raise --read-deadline",
        )

    def prefetch(self, blocks: Iterable[BlockId], arrived: Arrived | None = None) -> int:
        """Queues blocks that a program may want soon; returns how many were not under way already.

        Does not wait, and never raises: a prefetch that fails is counted. ``arrived`` is called in a
        worker thread with each block.
        """
        wanted = [b for b in blocks if b not in self._flights and self.at_hand(b) is None]
        for span in coalesce(wanted, self._settings.part_size):
            self._launch(span, demand=False, arrived=arrived)
        self._count.prefetched += len(wanted)
        self._dispatch()
        return len(wanted)

    def _join(self, block: BlockId) -> Flight | None:
        """The flight that brings ``block``; one that was queued for later is now wanted at once."""
        flight = self._flights.get(block)
        if flight is None:
            return None
        self._count.shared += 1
        if flight in self._ahead:
            del self._ahead[flight]
            self._demand.append(flight)
        flight.demand = True
        return flight

    def _launch(self, span: Span, *, demand: bool, arrived: Arrived | None = None) -> Flight:
        flight = Flight(span, demand, arrived)
        for block in span.blocks:
            self._flights[block] = flight
        if demand:
            self._demand.append(flight)
        else:
            self._ahead[flight] = None
        return flight

    def _dispatch(self) -> None:
        """Starts as many queued flights as the limits allow, demand first."""
        while self._demand and self._fits(self._demand[0], reserve=0):
            self._start(self._demand.popleft())
        while self._ahead and not self._demand:
            flight = next(iter(self._ahead))
            if not self._fits(flight, self._reserve):
                return
            del self._ahead[flight]
            self._start(flight)

    @property
    def _reserve(self) -> int:
        """Requests that prefetch leaves free for demand, in a process that answers programs at all."""
        return self._count.limit // 4 if self._count.reads else 0

    def _fits(self, flight: Flight, reserve: int) -> bool:
        if self._count.in_flight == 0:
            return True
        within = self._count.bytes_in_flight + flight.span.length <= self._settings.max_bytes
        return within and self._count.in_flight < self._count.limit - reserve

    def _start(self, flight: Flight, *, hedge: bool = False) -> None:
        flight.attempts += 1
        flight.started = trio.current_time()
        self._count.in_flight += 1
        self._count.bytes_in_flight += flight.span.length
        self._executor.submit(partial(self._perform, flight, hedge))

    def _perform(self, flight: Flight, hedge: bool) -> None:
        """In a worker thread: fetch, tell the loop, and only then do what no reader waits for."""
        try:
            fetched = self._transfer.fetch(flight.span, ask_cache=not hedge)
        except StoreError as error:
            self._mailbox.post(_Landing(flight, error, hedge))
        except Exception as error:  # whatever a client library raises must reach the waiters
            failed = StoreUnavailable(f"{flight.span.object.key}: {type(error).__name__}: {error}")
            failed.__cause__ = error
            self._mailbox.post(_Landing(flight, failed, hedge))
        else:
            self._mailbox.post(_Landing(flight, fetched, hedge))
            self._transfer.keep(fetched)
            if flight.arrived is not None:
                for block, data in fetched.pieces.items():
                    flight.arrived(block, data)

    def _land(self, landing: _Landing) -> None:
        flight, result, _hedge = landing
        flight.attempts -= 1
        self._count.in_flight -= 1
        self._count.bytes_in_flight -= flight.span.length
        if not flight.landed:
            self._settle(flight, result)
        self._dispatch()
        if self.on_room is not None and self.room() > 0:
            self.on_room()

    def _settle(self, flight: Flight, result: Fetched | StoreError) -> None:
        for block in flight.span.blocks:
            del self._flights[block]
        if isinstance(result, StoreError):
            self._count.errors += 1
        else:
            self._note(result)
            for block, data in result.pieces.items():
                self._memory.put(block, data)
        flight.land(result)

    def _note(self, fetched: Fetched) -> None:
        self._count.requests += fetched.requests
        self._count.cache_hits += len(fetched.pieces) - len(fetched.fresh)
        self._count.bytes_fetched += sum(block.length for block in fetched.fresh)


def blocks_of(extent: Extent, offset: int, size: int, block_size: int) -> list[BlockId]:
    """The aligned blocks of ``extent`` that cover ``[offset, offset + size)``, which must lie within it."""
    first, last = offset // block_size, (offset + size - 1) // block_size
    return [
        BlockId(
            extent.object, extent.offset + i * block_size, min(block_size, extent.length - i * block_size)
        )
        for i in range(first, last + 1)
    ]
