"""One fetch on its way, and who waits for it. Lives on the trio loop; only the fetcher touches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from ossmount.errors import DeadlineExceeded, StoreError
from ossmount.model import BlockId
from ossmount.readahead.coalescing import Span
from ossmount.readahead.transfer import Fetched
from ossmount.uris import shown_object

KERNEL_ASKS = 2
"""READs for one page before a program gets the error: the kernel's read-ahead, then one for the page alone
(mm/filemap.c). Each is answered within its share of the deadline; the second finds the first's flights."""

Arrived = Callable[[BlockId, bytes], None]
"""Called in a worker thread with each block of a prefetch, after the readers have been answered."""

Settled = Callable[[Sequence[BlockId], bool], None]
"""Called in any thread when blocks of a prefetch were offered to the cache (True) or failed (False); perhaps
twice, where a request was hedged."""

Failed = Callable[[], object]
"""Called on the loop, once, when a prefetch has failed; one that goes well costs nothing then."""


class Flight:
    """A span that is queued, on its way, or landed.

    A flight belongs to nobody: a waiter that is cancelled leaves it, and the others still get their
    bytes. ``attempts`` are running requests (two when hedged); the first result lands the flight.
    """

    __slots__ = (
        "absent", "arrived", "attempts", "demand", "error", "failed", "fetched", "length", "poured",
        "settled", "span", "started", "waiters",
    )  # fmt: skip

    def __init__(self, span: Span, demand: bool, arrived: Arrived | None = None) -> None:
        self.span = span
        self.length = span.length
        self.demand = demand
        self.arrived = arrived
        self.absent = False
        """Whether the disk cache was asked already, and has none of it."""
        self.settled: Settled | None = None
        self.failed: Failed | None = None
        self.poured: set[BlockId] | None = None
        """Where blocks are passed on one by one (see ``pouring``), those that were: nobody waits for it."""
        self.attempts = 0
        self.started = 0.0
        self.fetched: Fetched | None = None
        self.error: BaseException | None = None
        self.waiters: set[trio.lowlevel.Task] = set()

    def __repr__(self) -> str:
        state = "landed" if self.landed else f"{self.attempts} attempts" if self.attempts else "queued"
        first = self.span.blocks[0]
        return f"Flight({first.object.key!r}, {first.offset}+{self.length}, {state})"

    @property
    def landed(self) -> bool:
        """True when there is a result or an error."""
        return self.fetched is not None or self.error is not None

    async def wait(self) -> Fetched:
        """The result. Raises what the fetch raised."""
        if not self.landed:
            await self._wait_for_landing()
        if self.error is not None:
            raise self.error.with_traceback(None)
        assert self.fetched is not None  # noqa: S101 - landed without an error
        return self.fetched

    async def _wait_for_landing(self) -> None:
        task = trio.lowlevel.current_task()
        self.waiters.add(task)

        def leave(_: object) -> trio.lowlevel.Abort:
            self.waiters.discard(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def land(self, result: Fetched | BaseException) -> None:
        """Sets the result and wakes every waiter."""
        if isinstance(result, BaseException):
            self.error = result
        else:
            self.fetched = result
        for task in self.waiters:
            trio.lowlevel.reschedule(task)
        self.waiters.clear()

    def give_up(self) -> None:
        """Tells who asked for a prefetch that it has failed."""
        if self.settled is not None:
            self.settled(self.span.blocks, False)
        if self.failed is not None:
            self.failed()


def too_late(block: BlockId, seconds: float) -> DeadlineExceeded:
    """The error of a reader that has waited for ``block`` for its share of the deadline."""
    uri = shown_object(block.object.store, block.object.key)
    return DeadlineExceeded(
        f"{uri}: no answer within {seconds:g} s, half the deadline (the kernel asks twice)",
        "check the network and the endpoint, or raise --read-deadline",
    )


class Landing(NamedTuple):
    """What one request of a flight came to. ``hedge``: of its second one."""

    flight: Flight
    result: Fetched | StoreError
    hedge: bool
