"""Where observations and wishes go to the prefetchers: tell and forget. Never waits, never raises."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ossmount.readahead.messages import (
    known_frames,
    listed_frame,
    looked_up_frame,
    opened_frame,
    read_frame,
    reopened_frame,
    warm_frames,
    withdrawn_frame,
)


class HasFileno(Protocol):
    """A socket, a file."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


Channel = int | HasFileno

TOLD_AT_ONCE = 64
"""Opens, where nobody has anything to plan: less than a kilobyte, and a quarter of what a planner
remembers as lately opened."""

READS_AT_ONCE = 8
"""READs and look-ups, which tell that pages or names are gone: a new epoch must not wait long for its
plan."""

BUSY_AT_ONCE = 16
"""Opens and READs of programs that do not wait, while somebody plans …"""

SOON_SECONDS = 0.002
"""… or for so long: a prefetcher takes in what it hears at most so often, and each telling costs the worker
two system calls and may wake somebody."""

AHEAD_SECONDS = 0.02
"""The same, with ``TOLD_AT_ONCE``, while everybody who plans is hundreds of files ahead: what they hear then
changes no plan soon, and at a few hundred files a second each telling would tell of one."""

LISTED_AT_ONCE = 32
"""Directories that were listed are told with the next open or READ of this process, at the latest this many
at once: alone they plan nothing, and to wake every prefetcher costs a tenth of listing a hundred files."""


USUAL_OPENS_PER_SECOND = 400
"""Of programs whose opens nobody tells: what two processors decode. Fewer READs than a third of it are of
pages that went now and then, more mean that an epoch's are gone."""


def descriptor_of(channel: Channel) -> int:
    """The descriptor of ``channel``."""
    return channel if isinstance(channel, int) else channel.fileno()


class Attention:
    """How soon prefetchers need to hear what programs do, so that they are not woken by every open.

    Made before the fork: a byte for each prefetcher, which only it writes.
    """

    _RESTS, _AHEAD, _CLOSE = range(3)

    def __init__(self, prefetchers: int) -> None:
        self._paid = mmap.mmap(-1, max(1, prefetchers))
        self._all_rest = bytes(len(self._paid))
        self._paid[:] = bytes([self._CLOSE]) * len(self._paid)

    def __repr__(self) -> str:
        return f"Attention({list(self._paid[:])})"

    @property
    def rests(self) -> bool:
        """Whether nobody has anything to plan."""
        return self._paid[:] == self._all_rest

    @property
    def is_close(self) -> bool:
        """Whether somebody may plan something else after the next open, or plans not far ahead."""
        return self._CLOSE in self._paid[:]

    def pay(self, number: int, *, now: bool, ahead: bool = False) -> None:
        """Whether prefetcher ``number`` may have something to plan from the next open; ``ahead``: but is far
        before the programs with what it has planned.
        """
        paid = (self._AHEAD if ahead else self._CLOSE) if now else self._RESTS
        if self._paid[number] != paid:
            self._paid[number] = paid


class Observer:
    """Sends to every prefetcher, each over its own channel; what does not fit is dropped and counted.

    Losing an observation costs a plan, never correctness. What programs do that go on at once is held back a
    little, for they soon do more; while ``attention`` rests, more of it, and of files that are opened again
    only the number is told: to wake the prefetchers costs more than to answer. ``clock``: seconds.
    """

    def __init__(
        self,
        *channels: Channel,
        attention: Attention | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._descriptors = [descriptor_of(channel) for channel in channels]
        self._attention = attention
        self._clock = clock
        self._told = -SOON_SECONDS
        """When somebody was told last."""
        self._held: list[bytes] = []
        self._reads = 0
        """Of those held: READs, and files that were looked up."""
        self._reopened = 0
        self._unasked: float | None = None
        """Until when opens that nobody tells have been counted."""
        self._sent = 0
        self._dropped = 0
        for descriptor in self._descriptors:
            os.set_blocking(descriptor, False)

    def __repr__(self) -> str:
        return f"Observer({self._sent} sent, {self._dropped} dropped)"

    def statistics(self) -> dict[str, int]:
        """Frames sent and dropped."""
        return {"sent": self._sent, "dropped": self._dropped}

    def opened(self, ino: int, *, waits: bool = False) -> None:
        """A program opened the file; ``waits``: and will not go on before a prefetcher has heard of it."""
        self._hold(opened_frame(ino), at_once=waits)

    def reopened(self, ino: int) -> bool:
        """A program opened the file, which had been opened before with all its bytes in place.

        Returns True where nobody has anything to plan from that.
        """
        if not self._patient:
            self.opened(ino)
            return False
        self._reopened += 1
        return True

    def unasked(self) -> None:
        """A READ comes of a kernel that does not tell opens: so many as usual are taken to be before it.

        What is lost of each epoch is a share of what is opened (:mod:`ossmount.readahead.dataset`).
        """
        now = self._clock()
        if self._unasked is None:
            self._unasked = now
        opens = int((now - self._unasked) * USUAL_OPENS_PER_SECOND)
        self._unasked += opens / USUAL_OPENS_PER_SECOND
        self._reopened += opens

    def flush(self) -> None:
        """Tells what is held back."""
        if self._reopened:
            self._held.insert(0, reopened_frame(self._reopened))
            self._reopened = 0
        if self._held:
            held, self._held, self._reads = self._held, [], 0
            self._told = self._clock()
            self._send(b"".join(held), len(held))

    def read(self, ino: int, offset: int, size: int, *, cached: bool = False) -> None:
        """A READ reached this process; ``cached``: of a small file, which needs no request to the store.

        Else its program waits, and prefetchers should know.
        """
        self._reads += 1
        self._hold(read_frame(ino) if cached else read_frame(ino, offset, size), at_once=not cached)

    def looked_up(self, ino: int) -> None:
        """The kernel asked for the name of the file: as with a READ, what it knew may be gone."""
        self._reads += 1
        self._hold(looked_up_frame(ino))

    def listed(self, ino: int) -> None:
        """A program listed the directory."""
        self._held.append(listed_frame(ino))
        if len(self._held) >= LISTED_AT_ONCE:
            self.flush()

    def know(self, inos: Sequence[int], *, begin: bool = True) -> int:
        """A program will open ``inos`` in this order; returns how many were passed on.

        Fewer than all when the pipe is full: call again with the rest and ``begin=False`` a little later.
        """
        return self._tell_all(known_frames(inos, begin=begin))

    def warm(self, batch: int, inos: Sequence[int]) -> int:
        """Somebody wants ``inos`` in the disk cache; returns how many were passed on, as :meth:`know`."""
        return self._tell_all(warm_frames(batch, inos))

    def withdraw(self, batch: int) -> bool:
        """Takes a batch back, or the known order (``messages.KNOWN_ORDER``); False where a pipe is full."""
        return self._tell(withdrawn_frame(batch))

    def _hold(self, frame: bytes, *, at_once: bool = False) -> None:
        """Tells ``frame`` with what comes next, or now."""
        self._held.append(frame)
        if at_once or not self._can_wait:
            self.flush()

    @property
    def _can_wait(self) -> bool:
        """Whether what is held may wait for what comes next."""
        if self._patient:
            return len(self._held) < TOLD_AT_ONCE and self._reads < READS_AT_ONCE
        close = self._attention is None or self._attention.is_close
        most, seconds = (BUSY_AT_ONCE, SOON_SECONDS) if close else (TOLD_AT_ONCE, AHEAD_SECONDS)
        return len(self._held) < most and self._clock() - self._told < seconds

    @property
    def _patient(self) -> bool:
        return self._attention is not None and self._attention.rests

    def _tell_all(self, frames: Iterable[tuple[bytes, int]]) -> int:
        passed = 0
        for frame, count in frames:
            if not self._tell(frame):
                break
            passed += count
        return passed

    def _tell(self, frame: bytes) -> bool:
        self.flush()
        return self._send(frame, 1)

    def _send(self, frames: bytes, count: int) -> bool:
        """``frames`` in one write, which no other process's frames get into: they are less than PIPE_BUF."""
        told = True
        for descriptor in self._descriptors:
            try:
                os.write(descriptor, frames)
                self._sent += count
            except OSError:  # full, or the prefetcher is gone and not yet replaced
                self._dropped += count
                told = False
        return told
