"""What is on its way into the page cache, told between the processes of a mount.

A program that opens a file whose bytes are in the air would ask for them again: a READ, and a second GET of
the same object. So its OPEN is answered when they have come, and no READ follows. (Not the READ: the kernel
keeps the pages of a READ locked, and the push would wait for its answer.) Where a prefetcher *covers* what
programs read, a file that it has not come to yet goes the same way: the worker marks it as wanted, and the
prefetcher fetches it next. That costs a third of a READ, a GET and a put of the worker's own.

Nothing depends on a mark: one that is lost costs a request, and who waits in vain goes on after ``PATIENCE``.

What may live here: the marks and those who wait for them. Who may touch it: whoever has measured an epoch of
a program that told its order, and of one that did not, before and after.
"""

from __future__ import annotations

import copy
import mmap
import os
from collections.abc import Awaitable, Callable, Iterable

import trio

MOST_INODES = 1 << 26
"""Inode numbers that have a mark, a byte each, of which memory holds the pages in use; files beyond are read
as they always were."""

PATIENCE = 1.0
"""Seconds for what a prefetcher should bring; then the program's own request is the better chance."""

SLOTS = 1 << 14
"""Places in which a worker says for which files it waits, a byte each. Two files that share one ring a bell
for nothing; a worker has at most some thousand requests."""

_NOTHING, _COMING, _WANTED, _COME = range(4)
_FIRST, _LAST = 4, 255
"""Opened since it has come, or with nothing on its way, in one of so many generations."""


class Arrivals:
    """The marks. Made before the fork; each process takes its part of it.

    Prefetchers say what is coming and what has come, and ring for the workers in which somebody waits for it.
    """

    def __init__(self, workers: int, prefetchers: int) -> None:
        self._marks = mmap.mmap(-1, MOST_INODES)
        self._waiting = [mmap.mmap(-1, SLOTS) for _ in range(workers)]
        self._covered = mmap.mmap(-1, max(1, prefetchers))
        self._bells = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(workers)]
        self._opened = _FIRST

    def __repr__(self) -> str:
        return f"Arrivals({len(self._bells)} workers)"

    def of_next_generation(self) -> Arrivals:
        """The same marks, except that every inode has to be looked at again before its open is answered."""
        following = copy.copy(self)
        following._opened += 1
        if following._opened > _LAST:
            following._opened = _FIRST
            self._marks.madvise(mmap.MADV_REMOVE)  # of 252 generations: all begins anew
        return following

    def expect(self, ino: int) -> None:
        """The bytes of ``ino`` have been asked for, and will be pushed."""
        if ino < MOST_INODES:
            self._marks[ino] = _COMING

    def has_come(self, ino: int) -> bool:
        """Whether there is nothing to wait for any more."""
        return self._marks[ino] >= _COME

    def reopens(self, ino: int) -> bool:
        """Whether ``ino`` was opened before in this generation, and nothing of it is on its way."""
        return ino < MOST_INODES and self._marks[ino] == self._opened

    def want(self, ino: int) -> bool:
        """A program opens ``ino``: True where it should wait for a prefetcher, which sees the mark."""
        if ino >= MOST_INODES:
            return False
        mark = self._marks[ino]
        if mark == _NOTHING:
            mark = self._marks[ino] = _WANTED if self._covered[self._whose(ino)] else self._opened
        elif mark >= _COME:
            self._marks[ino] = self._opened
        return mark < _COME

    def waited(self, ino: int) -> None:
        """The open of ``ino`` was answered after it had come."""
        if self._marks[ino] == _COME:
            self._marks[ino] = self._opened

    def wanted(self, ino: int) -> bool:
        """Whether a program waits for ``ino``, which no prefetcher has begun."""
        return ino < MOST_INODES and self._marks[ino] == _WANTED

    def promised(self, ino: int) -> bool:
        """Whether a prefetcher has said that ``ino`` is coming, be it one that has died since."""
        return ino < MOST_INODES and self._marks[ino] == _COMING

    def cover(self, number: int, now: bool) -> None:
        """Whether prefetcher ``number`` is fetching what programs read, and so may be waited for."""
        if self._covered[number] != now:
            self._covered[number] = now

    def give_up(self, ino: int) -> None:
        """Somebody waited for ``ino`` in vain: its prefetcher may be gone, so nobody waits for more."""
        self.cover(self._whose(ino), False)
        self.come(ino)

    def _whose(self, ino: int) -> int:
        return ino % len(self._covered)

    def come(self, ino: int) -> None:
        """It has been pushed, or will not be; what was not on its way stays as it is. From any thread."""
        if ino >= MOST_INODES:
            return
        if not self.has_come(ino):
            self._marks[ino] = _COME
        for waiting, bell in zip(self._waiting, self._bells, strict=True):
            if waiting[ino % SLOTS]:
                os.eventfd_write(bell, 1)

    def waits_of(self, number: int, largest: int) -> ArrivalWaits:
        """The waits in worker ``number``, for files of at most ``largest`` bytes."""
        self._waiting[number][:] = bytes(SLOTS)  # of one that was killed
        return ArrivalWaits(self, number, self._bells[number], largest)

    def somebody_waits(self, number: int, ino: int) -> None:
        """Somebody in worker ``number`` waits for ``ino``; only that worker says so."""
        self._waiting[number][ino % SLOTS] = True

    def nobody_waits(self, number: int, ino: int, others: Iterable[int]) -> None:
        """Nobody in worker ``number`` waits for ``ino`` any more, but for ``others``."""
        slot = ino % SLOTS
        self._waiting[number][slot] = any(other % SLOTS == slot for other in others)


class ArrivalWaits:
    """The programs that wait in one worker. Loop only."""

    def __init__(self, arrivals: Arrivals, number: int, bell: int, largest: int) -> None:
        self._arrivals, self._number, self._bell, self._largest = arrivals, number, bell, largest
        self._events: dict[int, trio.Event] = {}
        self._waits = self._in_vain = 0

    def __repr__(self) -> str:
        return f"ArrivalWaits({len(self._events)} files, {self._waits} waits, {self._in_vain} in vain)"

    def statistics(self) -> dict[str, int]:
        """Opens that waited, and those after which the bytes had not come."""
        return {"waits": self._waits, "in_vain": self._in_vain}

    def wait_for(self, ino: int, size: int) -> Callable[[], Awaitable[None]] | None:
        """What to await before the open of ``ino`` is answered; None where its own READ is as good."""
        if not 0 < size <= self._largest or not self._arrivals.want(ino):
            return None
        return lambda: self._wait(ino)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hears of arrivals until cancelled. Without it everybody waits in vain."""
        task_status.started()
        while True:
            await trio.lowlevel.wait_readable(self._bell)
            os.eventfd_read(self._bell)
            for ino in [ino for ino in self._events if self._arrivals.has_come(ino)]:
                self._events.pop(ino).set()

    async def _wait(self, ino: int) -> None:
        self._waits += 1
        event = self._events.get(ino)
        if event is None:
            event = self._events[ino] = trio.Event()
        self._arrivals.somebody_waits(self._number, ino)
        try:
            if not self._arrivals.has_come(ino):  # it may have before anybody could see us wait
                with trio.move_on_after(PATIENCE) as patience:
                    await event.wait()
                if patience.cancelled_caught:
                    self._in_vain += 1
                    self._arrivals.give_up(ino)
                    return
            self._arrivals.waited(ino)
        finally:
            if self._events.get(ino) is event:
                del self._events[ino]
                event.set()
            self._arrivals.nobody_waits(self._number, ino, self._events)
