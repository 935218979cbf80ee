"""Who reads the next request: the accept mutex, put in the place of pyfuse3's ``trio`` attribute.

``/dev/fuse`` wakes every process that waits for it and gives the request to one; the others would block
in ``read(2)`` with their whole event loop (FACTS). So one token byte goes round in a pipe, and only the
worker that holds it waits for the device.

What may live here: the token and the stand-ins for the ``trio`` module. Who may touch it: whoever has
read pyfuse3's ``_session_loop`` and ``_wait_fuse_readable``, for every attribute they use is here.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import IntEnum
from typing import Any

import pyfuse3
import trio

from ossmount.fuse.request_headers import of_loop

TURNS_BEFORE_CHECKPOINT = 16
"""Requests accepted in a row without asking trio, so that tasks that wait for I/O get their turn too.

A wait through trio costs an epoll round of some 15 µs (80 where caches are cold), a look with ``poll`` one.
"""

TURNS_UNHURRIED = 64
"""The same while nobody in this worker waits for bytes: statistics and signals can wait."""

PATIENCE_MS = 10
"""How long a worker in which nobody waits for bytes blocks for the next request before it goes through trio.

A program that lists, or opens file after file, asks again within it: that request is then answered 17 us
sooner, and at a few hundred files a second, where caches are cold each time, an open with all that follows
takes 140 us of CPU instead of 220. Blocking delays what else the loop does once for each request, by this
much at most: statistics, signals, time-outs of requests that nobody waits for.
"""

CONNECTION_ENDED = frozenset({errno.ENODEV, errno.ECONNABORTED})
"""Unmounted, or aborted through ``/sys/fs/fuse/connections``."""

_RECOVERY_STEPS = 2000
_RECOVERY_PAUSE = 0.0005
"""A live worker is between two steps of taking the token for microseconds: one second is for ever."""


class _Hold(IntEnum):
    NOTHING = 0
    REACHING = 1
    """About to read the pipe, or just did: may hold the token."""
    TOKEN = 2


class Token:
    """One byte in a pipe, and in shared memory what each worker holds. Made before the fork.

    Each worker writes its own slot only: what it holds, and how often it reached out. A worker killed at
    any point leaves a slot from which :meth:`restore` finds out whether the token died with it. Should
    two tokens ever exist, nothing breaks: the device is non-blocking and the slower reader tries again.
    """

    def __init__(self, workers: int) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._memory = mmap.mmap(-1, 8 * workers)  # two 32-bit numbers for each worker
        self._slots = memoryview(self._memory).cast("I")
        os.write(self._writer, b"t")

    def __repr__(self) -> str:
        return f"<Token in_pipe={self._in_pipe()} holds={[_Hold(hold).name for hold in self._slots[::2]]}>"

    def take_nowait(self, number: int) -> bool:
        """Worker ``number`` takes the token if it lies in the pipe."""
        slots = self._slots
        slots[2 * number + 1] = (slots[2 * number + 1] + 1) & 0xFFFFFFFF
        slots[2 * number] = _Hold.REACHING
        try:
            os.read(self.reader, 1)
        except BlockingIOError:
            slots[2 * number] = _Hold.NOTHING
            return False
        slots[2 * number] = _Hold.TOKEN
        return True

    def pass_on(self, number: int) -> None:
        """Worker ``number``, which holds the token, puts it back."""
        os.write(self._writer, b"t")
        self._slots[2 * number] = _Hold.NOTHING

    def restore(self, dead: Collection[int]) -> bool:
        """Puts a new token into the pipe if the one there was died with one of the workers ``dead``.

        Only the supervisor calls it, after it has reaped them and before it forks others.
        """
        held = any(self._slots[2 * number] != _Hold.NOTHING for number in dead)
        for number in dead:
            self._slots[2 * number] = _Hold.NOTHING
        if not held or not self._is_lost():
            return False
        os.write(self._writer, b"t")
        return True

    def _is_lost(self) -> bool:
        """True when no worker holds the token and it is not in the pipe, with nobody moving meanwhile."""
        for _ in range(_RECOVERY_STEPS):
            before = bytes(self._memory)
            holds = self._slots[::2].tolist()
            if self._in_pipe() or _Hold.TOKEN in holds:
                return False
            if _Hold.REACHING not in holds and not self._in_pipe() and bytes(self._memory) == before:
                return True
            time.sleep(_RECOVERY_PAUSE)
        return True

    def _in_pipe(self) -> bool:
        return bool(select.select([self.reader], [], [], 0)[0])


class ReadTurn:
    """Which session loop reads the next request: a lock that does not suspend who finds it free.

    ``trio.Lock`` goes through the scheduler at every turn, which makes an ``epoll_wait`` of each request, and
    is handed to who waited longest, which makes a task switch of it. Here who answered at once reads on, and
    the others sleep until :meth:`wake` says that a reader is about to suspend or has ended.
    """

    def __init__(self) -> None:
        self._held = False
        self._parked = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<ReadTurn held={self._held} waiting={len(self._parked)}>"

    async def __aenter__(self) -> None:
        while self._held:
            await self._parked.park()
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False

    def wake(self) -> None:
        """Lets another loop read. To be called by a handler that suspends, and when a loop ends."""
        if not self._held:
            self._parked.unpark()


_read_turn = ReadTurn()
"""One for each process: pyfuse3 makes its lock once, in the supervisor, and keeps it over the fork."""


class TrioForPyfuse3:
    """The attributes of ``trio`` and ``trio.lowlevel`` that pyfuse3 3.4 and 3.5 use."""

    Lock = staticmethod(lambda: _read_turn)
    ClosedResourceError = trio.ClosedResourceError
    current_task = staticmethod(trio.lowlevel.current_task)
    current_trio_token = staticmethod(trio.lowlevel.current_trio_token)
    notify_closing = staticmethod(trio.lowlevel.notify_closing)

    def __init__(self) -> None:
        self.lowlevel = self

    def open_nursery(self) -> AbstractAsyncContextManager[_Nursery]:
        """Its tasks survive what :func:`_survive` says."""
        return _guarded_nursery()

    def install(self) -> None:
        """From now on pyfuse3 uses this object in this process."""
        pyfuse3.trio = self  # type: ignore[attr-defined]


@asynccontextmanager
async def _guarded_nursery() -> AsyncIterator[_Nursery]:
    async with trio.open_nursery() as nursery:
        yield _Nursery(nursery)


class _Nursery:
    """A nursery whose session loops end or go on where pyfuse3's own would take the process down."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, loop: Callable[..., Awaitable[None]], *args: Any, name: str | None = None) -> None:
        self._nursery.start_soon(_survive, loop, *args, name=name)


async def _survive(loop: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Runs a session loop again when the request that woke it was gone, ends it when the mount is.

    A program that is killed takes back its request between our poll and our read: the non-blocking
    device then says EAGAIN, which pyfuse3 does not know.
    """
    try:
        while True:
            try:
                running = getattr(loop, "__wrapped__", loop)(*args)  # the loop itself, not pyfuse3's wrapper
                with of_loop(running):
                    await running
            except BlockingIOError:
                await trio.lowlevel.checkpoint()
            except OSError as error:
                if error.errno not in CONNECTION_ENDED:
                    raise
                return
            else:
                return
    finally:
        _read_turn.wake()  # the next one ends too, or reads on


class Acceptor(TrioForPyfuse3):
    """For a worker: waits for the device only while this worker holds the token."""

    def __init__(self, token: Token, number: int) -> None:
        super().__init__()
        self._token = token
        self._number = number
        self._held = False
        self._turns = 0
        self._suspended = 0
        self._stopped = False
        self._device: int | None = None
        self._poll = select.poll()
        self._token_poll = select.poll()
        self._token_poll.register(token.reader, select.POLLIN)

    def __repr__(self) -> str:
        return f"<Acceptor worker={self._number} held={self._held} stopped={self._stopped}>"

    async def wait_readable(self, fd: int) -> None:
        """Returns when this worker may read a request; raises trio.ClosedResourceError once stopped."""
        if self._device is None:
            self._device = fd
            self._poll.register(fd, select.POLLIN)
        self._turns += 1
        if self._turns >= (TURNS_BEFORE_CHECKPOINT if self._suspended else TURNS_UNHURRIED):
            self._turns = 0
            await trio.lowlevel.checkpoint()
        if not self._held or self._stopped:
            await self._take()
        if not self._poll.poll(0 if self._suspended else PATIENCE_MS):
            self._turns = 0
            await trio.lowlevel.wait_readable(fd)

    async def _take(self) -> None:
        while not self._stopped:
            if self._token.take_nowait(self._number):
                self._held = True
                return
            if self._suspended or not self._token_poll.poll(PATIENCE_MS):
                await trio.lowlevel.wait_readable(self._token.reader)
        self.pass_on()
        raise trio.ClosedResourceError

    def pass_on(self) -> None:
        """Lets another worker take the next request: what follows may take long."""
        if self._held:
            self._held = False
            self._token.pass_on(self._number)

    def suspend(self) -> None:
        """A request begins that waits: another worker, or another loop of this one, takes the next."""
        self._suspended += 1
        self.pass_on()
        _read_turn.wake()

    def resume(self) -> None:
        """A request that :meth:`suspend` was called for waits no longer."""
        self._suspended -= 1

    def pass_on_if_more(self) -> None:
        """Lets another worker take the next request if there is one already.

        A quick answer is cheaper than waking a process: only a queue is worth sharing.
        """
        if self._held and self._poll.poll(0):
            self.pass_on()

    def stop(self) -> None:
        """Accepts no further request. Those that were accepted are answered."""
        self._stopped = True
        trio.lowlevel.notify_closing(self._token.reader)
        if self._device is not None:
            trio.lowlevel.notify_closing(self._device)
        self.pass_on()
