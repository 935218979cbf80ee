"""A prefetcher process at work: observations in, fetches out, pages pushed into the kernel.

It answers no program: what it does late or not at all costs time only. Loop only, but for the push,
which runs in the fetcher's threads because the kernel may let it wait for a page.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import trio

from ossmount.config import ReadaheadSettings
from ossmount.errors import FileSystemError
from ossmount.model import BlockId
from ossmount.protocols import Index
from ossmount.readahead.acquaintance import Acquaintance
from ossmount.readahead.arrivals import Arrivals
from ossmount.readahead.dataset import DatasetPlanner
from ossmount.readahead.fetcher import Fetcher
from ossmount.readahead.messages import (
    KNOWN_ORDER,
    Decoder,
    Known,
    Listed,
    LookedUp,
    Observation,
    Opened,
    Read,
    Reopened,
    Warm,
    Withdrawn,
)
from ossmount.readahead.observer import Attention, Channel, descriptor_of
from ossmount.readahead.shelves import PAGE, Shelf
from ossmount.readahead.warming import Warming
from ossmount.readahead.window import WindowPlanner

Push = Callable[[int, int, bytes], bool]
"""``push(ino, offset, data)`` puts bytes into the kernel's page cache; False where it knows no such inode."""

NAP_SECONDS = 0.002
"""Observations are taken in together at most so often: a wake-up for each would cost more than its plan,
and one store request takes longer than this nap."""

LONG_NAP_SECONDS = 0.01
"""The same where all is planned, so that an open or a READ only says how far programs have come."""

PLANS_AT_ONCE = 16
"""Rooms full of files that the disk cache has, before observations are looked at again: some 30 ms."""

CHUNK = 1 << 16
"""Bytes read from the pipe at once."""


class Prefetcher:
    """Carries out the plans of ``planner`` for files with ``ino % of == number``.

    ``push_budget``: bytes that may be pushed and not opened yet; beyond it files go to the cache only.
    ``warming`` takes wishes to warm; without it they are ignored. ``arrivals`` is told what is on its way,
    ``attention`` whether every open matters. Pages that are left out of pushes are shown on ``pages``.
    """

    def __init__(
        self,
        index: Index,
        fetcher: Fetcher,
        planner: DatasetPlanner,
        push: Push | None = None,
        *,
        settings: ReadaheadSettings | None = None,
        push_budget: int = 4 << 30,
        share: tuple[int, int] = (0, 1),
        warming: Warming | None = None,
        arrivals: Arrivals | None = None,
        attention: Attention | None = None,
        pages: Shelf | None = None,
        acquaintance: Acquaintance | None = None,
    ) -> None:
        self._index = index
        self._fetcher = fetcher
        self._planner = planner
        self._warming = warming
        self._arrivals = arrivals
        self._attention = attention or Attention(share[1])
        self._pages = pages
        self._acquaintance = acquaintance or Acquaintance(index)
        self._settings = settings or ReadaheadSettings()
        self._push = push if self._settings.push else None
        self._push_budget = push_budget
        self._number, self._of = share
        self._windows = WindowPlanner(self._settings)
        self._decoder = Decoder()
        self._observed = self._files = self._pushed = self._unpushed = 0
        self._closed = False
        fetcher.on_room = self._pump

    def __repr__(self) -> str:
        return f"Prefetcher({self._number}/{self._of}, {self._files} files, {self._planner!r})"

    def statistics(self) -> dict[str, int]:
        """Observations, files asked for, pushes taken and refused, introductions, the planner's gauges."""
        return {
            "observed": self._observed,
            "files": self._files,
            "pushed": self._pushed,
            "push_refused": self._unpushed,
            "introduced": self._acquaintance.introduced,
            **self._planner.statistics(),
        }

    def close(self) -> None:
        """Plans no more; to be called before its index is closed, for a plan may be due on the loop."""
        self._closed = True

    async def run(self, observations: Channel) -> None:
        """Works until cancelled, or until every writer has closed its end."""
        async with trio.open_nursery() as nursery:
            if self._warming is not None:
                nursery.start_soon(self._warming.run)
            await self._listen(descriptor_of(observations))
            nursery.cancel_scope.cancel()

    async def _listen(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._attention.pay(self._number, now=True)  # one that died may have said that it rests
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            data, ended = _drain(descriptor)
            self.take_in(data)
            if ended:
                return
            if len(data) < CHUNK:
                await trio.sleep(LONG_NAP_SECONDS if self._planner.exhausted else NAP_SECONDS)

    def take_in(self, data: bytes) -> None:
        """Observations as they came over the wire."""
        for observation in self._decoder.feed(data):
            self._observed += 1
            try:
                self._note(observation)
            except FileSystemError:
                continue  # of another generation, or damaged on the way: nothing to plan from
        self._pump()

    def _note(self, observation: Observation) -> None:
        match observation:
            case Opened(ino):
                news, arrivals = self._planner.opened(ino), self._arrivals
                # What is promised and was not planned was so by one that died: nobody else will bring it.
                if arrivals is not None and (arrivals.wanted(ino) or (news and arrivals.promised(ino))):
                    self._fetch_now(ino, arrivals)
            case Reopened(count):
                self._planner.reopened(count)
            case Listed(ino):
                self._planner.listed(ino)
            case LookedUp(ino):
                self._acquaintance.miss(ino)
            case Known() | Warm() | Withdrawn():
                self._note_wish(observation)
            case Read(ino, offset, size):
                self._planner.read(ino)
                self._follow(ino, offset, size)

    def _note_wish(self, observation: Known | Warm | Withdrawn) -> None:
        match observation:
            case Known(inos, begin):
                self._planner.know(inos, begin=begin)
            case Withdrawn(batch) if batch == KNOWN_ORDER:
                self._planner.know(())
            case Warm(batch, inos) if self._warming is not None:
                self._warming.wish(batch, inos)
            case Withdrawn(batch) if self._warming is not None:
                self._warming.withdraw(batch)

    def _follow(self, ino: int, offset: int, size: int) -> None:
        """Large files: fetches this one's share ahead of the stream, and pushes all but a tripwire.

        Pushed pages are read without a word to us. So a page amid each stretch is left out: its READ says
        that the program has come so far, while half of the stretch still lies before it. All prefetchers
        follow the same stream: one alone is as fast as one interpreter.
        """
        if size == 0 or self._settings.readahead == "off":
            return
        extent = self._index.extent(ino)
        size = min(size, extent.length - offset)
        if extent.length <= self._settings.small_file or size <= 0:
            return
        plan = self._windows.plan(extent, offset, size)
        own = [part for part in plan.parts if self._is_own(ino, part[0].offset - extent.offset)]
        if not own:
            return
        blocks = [block for part in own for block in part]
        tripwire = blocks[len(blocks) // 2].offset
        arrived = partial(self._arrived, ino, extent.offset, tripwire) if self._push else None
        for part in own:
            self._fetcher.queue(part, arrived)
        self._fetcher.prefetch(())

    def _is_own(self, ino: int, offset: int) -> bool:
        """Whether this prefetcher fetches the part there."""
        return (offset // self._settings.part_size + ino) % self._of == self._number

    def _pump(self) -> None:
        """Fills the fetcher's room. Called when there is news, and when a flight has landed."""
        if self._closed:
            return
        if self._fetcher.room() > 0:
            self._plan()
            self._fetcher.prefetch(())
            covers = self._planner.covers
            self._attention.pay(self._number, now=not self._planner.exhausted, ahead=covers)
            if self._arrivals is not None:
                self._arrivals.cover(self._number, self._push is not None and covers)
            if self._warming is not None:
                self._warming.room()
        self._acquaintance.go_on()  # while what was asked for is on its way

    def _plan(self) -> None:
        """Queues what is to be fetched; files that the disk cache has take no room."""
        for _ in range(PLANS_AT_ONCE):
            room = self._fetcher.room()
            try:
                refs = self._planner.take(room) if room > 0 else []
            except FileSystemError:
                return  # as with observations: a plan less
            if not refs:
                return
            self._files += len(refs)
            blocks = [self._whole(ref.ino) for ref in refs]
            for ref, block, near in zip(refs, blocks, self._fetcher.bring_near(blocks), strict=True):
                if not near:
                    self._queue(ref.ino, block)
                elif self._arrivals is not None:
                    self._arrivals.come(ref.ino)
        trio.lowlevel.current_trio_token().run_sync_soon(self._pump)  # nothing may land to go on from

    def _queue(self, ino: int, block: BlockId) -> None:
        push = self._push is not None and self._planner.pending_bytes <= self._push_budget
        if push:
            self._acquaintance.plan(ino)
        if self._ask(ino, block, push=push, absent=True) and push and self._arrivals is not None:
            self._arrivals.expect(ino)

    def _whole(self, ino: int) -> BlockId:
        return self._index.extent(ino).block

    def _fetch_now(self, ino: int, arrivals: Arrivals) -> None:
        """A program waits in its open of a file that was not planned, or not yet."""
        if ino % self._of != self._number:
            return
        if self._ask(ino, self._whole(ino), push=True, urgent=True):
            arrivals.expect(ino)
        else:
            arrivals.come(ino)

    def _ask(
        self, ino: int, block: BlockId, *, push: bool, urgent: bool = False, absent: bool = False
    ) -> bool:
        """Queues a whole file; False where it is under way already."""
        arrived = partial(self._arrived, ino, block.offset, None) if push else None
        # Who waits for what cannot be had goes on: its READ will say what is wrong.
        failed = partial(self._arrivals.come, ino) if push and self._arrivals is not None else None
        queued = self._fetcher.queue([block], arrived, failed=failed, urgent=urgent, absent=absent)
        return queued > 0

    def _arrived(self, ino: int, start: int, tripwire: int | None, block: BlockId, data: bytes) -> None:
        """In a worker thread: the bytes go to the kernel before the program asks for them."""
        skip = PAGE if block.offset == tripwire else 0
        if skip and self._pages is not None:
            self._pages.show(block, data[:skip])
        if skip and len(data) <= skip:
            return  # before Linux 5.16 a push of nothing behind the end would make the file longer
        if self._push is not None and self._push(ino, block.offset - start + skip, data[skip:]):
            self._pushed += 1
        else:
            self._unpushed += 1
            self._acquaintance.refuse(ino)
        if self._arrivals is not None and tripwire is None:
            self._arrivals.come(ino)


def _drain(descriptor: int) -> tuple[bytes, bool]:
    """What can be read without waiting, up to ``CHUNK`` bytes and a little; True at the end of the file."""
    parts: list[bytes] = []
    length = 0
    try:
        while length < CHUNK:
            part = os.read(descriptor, CHUNK)
            if not part:
                return b"".join(parts), True
            parts.append(part)
            length += len(part)
    except BlockingIOError:
        pass
    return b"".join(parts), False
