"""How a flight gets its bytes: by a GET without a thread where the store can describe one, else in a thread.

Disk reads, requests that were refused or failed, and stores that only have blocking calls take a thread; a
first GET that goes well needs none, and that saves some ten context switches for each small file. Loop only,
but for :meth:`Delivery._perform` and what follows a landing (push, then disk cache): those run in the
executor's threads. What may live here: the two ways. Who may touch it: whoever has measured an epoch before
and after.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import trio

from ossmount.config import ReadaheadSettings
from ossmount.errors import StoreError, StoreUnavailable
from ossmount.model import BlockId
from ossmount.protocols import BlockCache, OpenStore, PartialBlockCache, ResidentBlockCache, Transfers
from ossmount.readahead.coalescing import Span
from ossmount.readahead.flight import Flight, Landing
from ossmount.readahead.keeping import Keeper
from ossmount.readahead.pouring import Buffers, Filled, Pouring
from ossmount.readahead.shelves import Shelf
from ossmount.readahead.threads import Executor, Mailbox, ThreadPool
from ossmount.readahead.transfer import Fetched, Transfer, cut_body
from ossmount.system_calls import trim_heap
from ossmount.uris import shown_object

LARGEST_TRANSFER = 1 << 20
"""Bytes of a GET on the loop that comes in one: a larger body is copied for milliseconds, in which nothing
else happens. Where nobody waits for the whole, its blocks are passed on as they come."""

TOGETHER = 32
"""Files that one job pushes and keeps; a push may wait for a READ of its file, and the rest with it."""

WAITING_BYTES = 4 << 20
"""Whole files that have come and wait to be pushed and kept: two jobs' worth. With more, a disk that stands
still would have a process fetch until its memory is full."""

PASSED_TOGETHER = 4
"""Blocks that one job pushes and keeps: one may wait for a READ of its pages, and the others with it."""

NAP_SECONDS = 0.001
"""Between two looks at the sockets in a process that answers nobody: bodies come in pieces, and a look for
each piece costs more than what it brings."""

STREAM_NAP_SECONDS = 0.002
"""The same while blocks of large files come: with half as many looks a GiB came 1 to 8 % sooner (medians of
five, three times). Small files had nothing of it."""


class Delivery:
    """Brings spans. ``landed`` is called on the loop with what has come, in order."""

    def __init__(
        self,
        open_store: OpenStore,
        cache: BlockCache,
        settings: ReadaheadSettings,
        landed: Callable[[Sequence[Landing]], None],
        *,
        executor: Executor | None = None,
        transfers: Transfers | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self._transfer = Transfer(open_store, cache)
        self._cache = cache if isinstance(cache, PartialBlockCache) else None
        self._near = cache if isinstance(cache, ResidentBlockCache) else None
        self._keeper = Keeper(cache, threaded=executor is None)
        self._executor = executor or ThreadPool(settings.max_requests)
        self._ahead = executor or ThreadPool(1, "ossmount-ahead")
        self._mailbox: Mailbox[Landing] = Mailbox(lambda landing: landed([landing]))
        self._landed = landed
        self._transfers = transfers
        self._attended = False
        self._landings: list[Landing] = []
        self._filled: list[tuple[Flight, Filled]] = []
        self._lock = threading.Lock()
        self._streams = 0
        """Parts of large files that are coming."""
        self._waiting = 0
        """Bytes of whole files that have come and are not passed on."""
        self._buffers = Buffers(settings.block_size, shelf)
        self._shelf = shelf
        self._clock = trio.lowlevel.current_clock()

    def __repr__(self) -> str:
        return f"Delivery({self._transfers!r}, {self._executor!r})"

    @property
    def held(self) -> int:
        """Bytes that have come, in whole or part, and are not passed on; 0 in a process that answers."""
        return self._buffers.lent

    @property
    def full(self) -> bool:
        """Whether so much waits for the kernel and the disk that more would only wait with it."""
        return self._waiting >= WAITING_BYTES

    @property
    def left_out(self) -> int:
        """Blocks of streams for which the disk cache was too slow."""
        return self._keeper.left_out

    def bring(self, flight: Flight, *, hedge: bool, patience: int) -> None:
        """Begins. ``patience``: landings of threads for which the loop is woken once (see Mailbox); above 1
        it says too that nobody waits for this process.
        """
        if not self._begin(flight, hedge, alone=patience > 1):
            self._executor.submit(partial(self._perform, flight, hedge, patience, not hedge))

    async def attend(
        self, idle: Callable[[], bool], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Looks after the transfers until cancelled. ``idle`` tells whether nobody waits for this process."""
        self._attended = self._transfers is not None
        task_status.started()
        if self._transfers is None:
            await trio.sleep_forever()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._transfers.fileno())
                more = True
                while more:  # in a stream it is cheaper to look again after the nap than to wait
                    if napping := idle():
                        await trio.sleep(STREAM_NAP_SECONDS if self._streams else NAP_SECONDS)
                    more = self.work() and napping
        finally:
            self._attended = False

    def work(self) -> bool:
        """What the watch does from time to time: time-outs, and landings that nobody has taken in. Whether
        anything had come.
        """
        self._mailbox.empty()
        if self._transfers is not None and self._attended:
            some = self._transfers.work()
            self._pass_on_filled()
            if self._landings:
                self._take_in()
            return some
        return False

    def at_hand(self, block: BlockId) -> bytes | memoryview | None:
        """The block where the disk cache can give it (almost) at once; until the next call."""
        return None if self._near is None else self._near.get_resident(block)

    def caches(self, block: BlockId) -> bool:
        """Whether the disk cache has the block, in memory or not."""
        return self._cache is not None and self._cache.contains(block)

    def bring_near(self, blocks: Sequence[BlockId]) -> Sequence[bool]:
        """Which of ``blocks`` the disk cache has; it begins to read those ahead."""
        if self._near is None:
            return [False] * len(blocks)
        has, read_ahead = self._near.reading_ahead(blocks)
        if any(has):
            self._ahead.submit(read_ahead)
        return has

    def rest(self) -> None:
        """Nothing is under way: memory for it is given back. What threads have freed, malloc would keep."""
        self._buffers.rest()
        self._ahead.submit(trim_heap)  # tens of milliseconds for some hundred megabytes

    def close(self) -> None:
        """Lets the threads end. Flights that are under way are not waited for."""
        self._executor.close()
        self._ahead.close()
        self._keeper.close()
        if self._transfers is not None:
            self._transfers.close()

    # -- without a thread ---------------------------------------------------------------------------

    def _begin(self, flight: Flight, hedge: bool, alone: bool) -> bool:
        span = flight.span
        pour = alone and not flight.demand and self._buffers.suit(span.blocks)
        if not self._attended or self._transfers is None or (flight.length > LARGEST_TRANSFER and not pour):
            return False
        if not hedge and not flight.absent and self._cached(span):
            return False
        if not pour:
            arrived = partial(self._came, flight, hedge)
            return self._transfers.start(span.object, span.offset, flight.length, arrived)
        sink = Pouring(span.blocks, self._buffers, partial(self._fill, flight))
        arrived = partial(self._poured, flight, hedge, sink)
        started = self._transfers.start(span.object, span.offset, flight.length, arrived, sink)
        self._streams += started
        if started and flight.poured is None:
            flight.poured = set()
            if self._shelf is not None:
                self._shelf.expect(span.blocks)
        return started

    def _cached(self, span: Span) -> bool:
        """Whether the disk cache may have some of it: then a thread asks it."""
        if self._cache is None:
            return True
        around = span.around is not None and self._cache.contains(span.around)
        return around or any(self._cache.contains(block) for block in span.blocks)

    def _came(self, flight: Flight, hedge: bool, body: bytes | None) -> None:
        if body is None:
            self._executor.submit(partial(self._perform, flight, hedge, 1, False))
            return
        pieces = cut_body(flight.span, body, keep=flight.demand)  # a reader's stay; others go on at once
        fetched = Fetched(pieces, list(flight.span.blocks), 1)
        self._landings.append(Landing(flight, fetched, hedge))

    def _fill(self, flight: Flight, filled: Filled) -> None:
        if flight.poured is None or filled.block in flight.poured:  # a hedge brings some twice
            self._buffers.give_back(filled.memory)
            return
        flight.poured.add(filled.block)
        if self._shelf is not None:
            self._shelf.put(filled.block, filled.memory)
            self._shelf.give_up([filled.block])
        self._filled.append((flight, filled))
        if len(self._filled) >= PASSED_TOGETHER:
            self._pass_on_filled()

    def _pass_on_filled(self) -> None:
        if self._filled:
            filled, self._filled = self._filled, []
            self._executor.submit(partial(self._pass_on, filled))

    def _poured(self, flight: Flight, hedge: bool, sink: Pouring, body: bytes | None) -> None:
        sink.stop()
        self._streams -= 1
        if self._shelf is not None:
            self._shelf.give_up(flight.span.blocks)
        if body is None:
            self._came(flight, hedge, None)
        else:
            self._landings.append(Landing(flight, Fetched({}, list(flight.span.blocks), 1), hedge))

    def _pass_on(self, batch: Sequence[tuple[Flight, Filled]]) -> None:
        """In a thread: blocks of large files, first to the kernel, then to the disk cache."""
        # What takes blocks here reads views like bytes: it pushes, hashes and writes them.
        blocks = [(filled.block, cast("bytes", filled.data)) for _, filled in batch]
        for (flight, _), (block, data) in zip(batch, blocks, strict=True):
            if flight.arrived is not None:
                flight.arrived(block, data)
        read = all(flight.arrived is not None for flight, _ in batch)
        self._keeper.keep(blocks, partial(self._settle, batch), stream=read)

    def _settle(self, batch: Sequence[tuple[Flight, Filled]]) -> None:
        for flight, filled in batch:
            self._buffers.give_back(filled.memory)
            if flight.settled is not None:
                flight.settled([filled.block], True)

    def _take_in(self) -> None:
        """What has come together is told at once, and then followed up, a few files to a job."""
        landings, self._landings = self._landings, []
        fresh = [landing for landing in landings if not landing.flight.landed and not landing.flight.poured]
        self._wait(sum(landing.flight.length for landing in fresh))
        self._landed(landings)
        for first in range(0, len(fresh), TOGETHER):
            self._executor.submit(partial(self._after_all, fresh[first : first + TOGETHER]))

    def _after_all(self, landings: Sequence[Landing]) -> None:
        for flight, result, _ in landings:
            if isinstance(result, Fetched):
                self._after(flight, result)
        self._wait(-sum(landing.flight.length for landing in landings))

    def _wait(self, count: int) -> None:
        with self._lock:
            self._waiting += count

    # -- in a thread --------------------------------------------------------------------------------

    def _perform(self, flight: Flight, hedge: bool, patience: int, ask_cache: bool) -> None:
        """Fetch, tell the loop, and only then do what no reader waits for."""
        if not hedge:
            flight.started = self._clock.current_time()  # it may have waited for a thread
        try:
            fetched = self._transfer.fetch(flight.span, ask_cache=ask_cache, views=patience > 1)
        except StoreError as error:
            self._mailbox.post(Landing(flight, error, hedge))
        except BaseException as error:  # whatever a client library raises must reach the waiters, panics too
            target = flight.span.object
            uri = shown_object(target.store, target.key)
            failed = StoreUnavailable(f"{uri}: {type(error).__name__}: {error}")
            failed.__cause__ = error
            self._mailbox.post(Landing(flight, failed, hedge))
        else:
            too_late = flight.landed
            held = flight.length if patience > 1 and not too_late else 0
            self._buffers.hold(held)
            self._mailbox.post(Landing(flight, fetched, hedge), patience)
            if not too_late:
                self._after(flight, fetched, held)

    def _after(self, flight: Flight, fetched: Fetched, held: int = 0) -> None:
        """Push first, for a program may be about to open the file; then cache."""
        passed = flight.poured or ()
        if flight.arrived is not None:
            for block, data in fetched.pieces.items():
                if block not in passed:
                    flight.arrived(block, data)
        done = None if flight.settled is None and not held else partial(self._done, flight, held)
        if fetched.fresh or done is not None:
            fresh = [(block, fetched.pieces[block]) for block in fetched.fresh if block not in passed]
            self._keeper.keep(fresh, done)

    def _done(self, flight: Flight, held: int) -> None:
        self._buffers.hold(-held)
        if flight.settled is not None:
            flight.settled(flight.span.blocks, True)
