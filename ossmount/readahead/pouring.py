"""Bodies that are cut into blocks while they come: for what is read ahead of a program, block by block.

A part of a large file is tens of milliseconds in coming. Kept whole until its last byte it costs as much
memory as it is long, and its first block waits for its last. So each block is passed on, to the kernel and to
the disk cache, when it is complete, and its memory then serves the next block: fresh memory for each costs as
much as all the rest (a page fault and a page of zeros for every 4 KiB). What may live here: that memory and
the cutting. No requests, no loop.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ossmount.model import BlockId
from ossmount.readahead.shelves import Shelf


class Filled(NamedTuple):
    """A block and its bytes, which are to be given back; they are right until then."""

    block: BlockId
    memory: mmap.mmap
    data: memoryview


class Buffers:
    """Memory for blocks of up to ``block_size`` bytes, lent and given back. Thread-safe.

    Whole pages of their own for each, so that a disk can be written from them directly; on ``shelf`` while
    there is room, where workers find them.
    """

    def __init__(self, block_size: int, shelf: Shelf | None = None) -> None:
        self._block = block_size
        self._size = -(-block_size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._shelf = shelf
        self._spare: list[mmap.mmap] = []
        self._lock = threading.Lock()
        self._lent = 0
        self._resting = False

    def __repr__(self) -> str:
        return f"Buffers({self._lent} bytes lent, {len(self._spare)} spare)"

    @property
    def lent(self) -> int:
        """Bytes that are out."""
        return self._lent

    def suit(self, blocks: Sequence[BlockId]) -> bool:
        """Whether ``blocks`` are of a large file; whole small files are of any size."""
        return blocks[0].length == self._block

    def take(self) -> mmap.mmap:
        """Memory for a block, whatever was in it before."""
        with self._lock:
            self._lent += self._size
            self._resting = False
            if self._shelf is not None and (slot := self._shelf.take()) is not None:
                return slot
            if self._spare:
                return self._spare.pop()
        return mmap.mmap(-1, self._size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def give_back(self, memory: mmap.mmap) -> None:
        """Its last user is done with it."""
        with self._lock:
            self._lent -= self._size
            on_shelf = self._shelf is not None and self._shelf.give_back(memory)
            if not on_shelf and not self._resting:
                self._spare.append(memory)

    def hold(self, count: int) -> None:
        """Bytes elsewhere that count as lent; below 0 they do no more."""
        with self._lock:
            self._lent += count

    def rest(self) -> None:
        """Nothing is coming: the system gets back what is not lent, and then what comes back."""
        with self._lock:
            self._resting = True
            self._spare.clear()
            if self._shelf is not None:
                self._shelf.rest()


class Pouring:
    """Cuts one body (see ``protocols.Sink``) into ``blocks``, which follow each other without a gap."""

    def __init__(self, blocks: Sequence[BlockId], buffers: Buffers, filled: Callable[[Filled], None]) -> None:
        self._left = deque(blocks)
        self._buffers = buffers
        self._filled = filled
        self._memory: mmap.mmap | None = None
        self._room = memoryview(b"")

    def room(self) -> memoryview:
        """What is left of the block that is being filled."""
        if not self._room:
            memory = self._memory = self._buffers.take()
            self._room = memoryview(memory)[: self._left[0].length]
        return self._room

    def came(self, count: int) -> None:
        """So many bytes are in :meth:`room`; a block that they complete is passed on."""
        self._room = self._room[count:]
        if not self._room and self._memory is not None:
            block, memory = self._left.popleft(), self._memory
            self._memory = None
            self._filled(Filled(block, memory, memoryview(memory)[: block.length]))

    def stop(self) -> None:
        """No more will come: gives back what is not full."""
        self._room = memoryview(b"")
        if self._memory is not None:
            self._buffers.give_back(self._memory)
            self._memory = None
        self._left.clear()
