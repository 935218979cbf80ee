"""Blocks of large files that prefetchers have or are getting, where workers can read them.

A program that reads a large file faster than it comes catches up with what is pushed into the kernel, and
its READ then asks for a block that is in the air. A GET of the worker's own would bring it later than the one
that is on its way, and the prefetcher's push would wait all the time for the READ's pages. So prefetchers
keep blocks in memory that all processes share, and say what is coming: a READ of such a block waits for it.
The same way they show the pages that they left out of their pushes to hear how far programs have come: long
before such a page is read its block is on the disk, and not in the kernel's memory.

Nothing depends on it: whoever finds nothing here, or waits for ``PATIENCE`` in vain, asks the store.

What may live here: that memory, what is written on it, and who waits. Whose bytes a slot holds is told by a
digest beside it; a slot is given to another block only under a lock that no reader holds, so nobody sees two
blocks in one.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import deque
from collections.abc import Sequence

import trio

from ossmount.model import DIGEST_BYTES, BlockId, Extent
from ossmount.readahead.window import blocks_of

SLOTS = 64
"""Blocks on all shelves together: those that have come and wait for the kernel and the disk, and the last
ones that did not have to. Memory is taken by use, and given back when nothing is coming."""

PAGE = max(4096, mmap.PAGESIZE)
"""What the kernel reads at least: 16 or 64 KiB on some machines, as those with ARM processors."""

PAGES = 64
"""Pages that each prefetcher left out and shows: those of a dozen streams."""

LARGEST_BLOCK = 4 << 20
"""With larger blocks (``--block-size``) the shelves would be a quarter of a GiB: then there are none."""

PATIENCE = 1.0
"""Seconds for a block that is said to be coming; then the worker's own GET is the better chance."""

NAP_SECONDS = 0.001
"""Between two looks of who waits: a fifteenth of what the next MiB takes on a fast connection."""

_COMING = 4096
"""Places for what is coming, sixteen times what one stream has in the air; a clash costs a GET."""

_NOTHING = bytes(DIGEST_BYTES)


class Shelves:
    """The shelves of all prefetchers. Made before the fork."""

    def __init__(self, prefetchers: int, block_size: int) -> None:
        self._block = block_size
        count = prefetchers if block_size <= LARGEST_BLOCK else 0
        slots = max(1, SLOTS // max(1, count))
        pages = [count * slots + number * PAGES for number in range(prefetchers)]
        self._lock = os.memfd_create("ossmount-shelves", os.MFD_CLOEXEC)
        self._shelves = [Shelf(self._lock, number * slots, block_size, slots) for number in range(count)]
        self._pages = [Shelf(self._lock, first, PAGE, PAGES) for first in pages]
        self._searched = (*self._shelves, *self._pages)
        self._waits = self._in_vain = self._found = 0

    def __repr__(self) -> str:
        return f"Shelves({len(self._shelves)})"

    def shelf(self, number: int) -> Shelf | None:
        """That of prefetcher ``number``, empty: what it said before it died does not hold any more."""
        if number >= len(self._shelves):
            return None
        self._shelves[number].clear()
        return self._shelves[number]

    def pages(self, number: int) -> Shelf:
        """Where prefetcher ``number`` shows pages, empty."""
        self._pages[number].clear()
        return self._pages[number]

    def statistics(self) -> dict[str, int]:
        """Blocks that READs found here, those of them that were waited for, and waits in vain."""
        return {"found": self._found, "waits": self._waits, "in_vain": self._in_vain}

    async def read(self, extent: Extent, offset: int, size: int) -> bytes | None:
        """``size`` bytes from ``offset``, which lie within ``extent``; None: the store is to be asked."""
        if not self._pages:
            return None
        parts: list[bytes] = []
        end = extent.offset + offset + size
        position = extent.offset + offset
        for block in blocks_of(extent, offset, size, self._block):
            stop = min(end, block.offset + block.length)
            part = await self._part(block, position - block.offset, stop - block.offset)
            if part is None:
                return None
            parts.append(part)
            position = stop
        self._found += len(parts)
        return b"".join(parts)

    async def _part(self, block: BlockId, start: int, stop: int) -> bytes | None:
        digest = block.digest()
        if (part := self._copy(digest, start, stop)) is not None or not self._coming(digest):
            return part
        self._waits += 1
        with trio.move_on_after(PATIENCE):
            while self._coming(digest):
                await trio.sleep(NAP_SECONDS)
                if (part := self._copy(digest, start, stop)) is not None:
                    return part
            return self._copy(digest, start, stop)
        self._in_vain += 1
        return None

    def _coming(self, digest: bytes) -> bool:
        return any(shelf.is_coming(digest) for shelf in self._shelves)

    def _copy(self, digest: bytes, start: int, stop: int) -> bytes | None:
        for shelf in self._searched:
            if (part := shelf.copy(digest, start, stop)) is not None:
                return part
        return None


class Shelf:
    """One prefetcher's. It alone writes: ``expect`` to ``put`` on its loop, the rest in any thread.

    Its ``slots`` are locked with as many bytes of the file ``lock``, from ``first`` on.
    """

    def __init__(self, lock: int, first: int, block_size: int, slots: int) -> None:
        self._lock, self._first, self._block = lock, first, block_size
        size = -(-block_size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._slots = [mmap.mmap(-1, size) for _ in range(slots)]  # shared: workers read them
        self._number = {id(slot): i for i, slot in enumerate(self._slots)}
        self._labels = mmap.mmap(-1, slots * DIGEST_BYTES)
        self._announced = mmap.mmap(-1, _COMING * DIGEST_BYTES)
        self._free: deque[int] = deque(range(slots))

    def __repr__(self) -> str:
        return f"Shelf({len(self._slots) - len(self._free)} of {len(self._slots)} slots in use)"

    # -- the prefetcher's side ------------------------------------------------------------------------

    def expect(self, blocks: Sequence[BlockId]) -> None:
        """They have been asked for, and will be put here."""
        for block in blocks:
            digest = block.digest()
            place = _place_of(digest)
            self._announced[place : place + DIGEST_BYTES] = digest

    def give_up(self, blocks: Sequence[BlockId]) -> None:
        """They have come, or will not come here: nobody shall wait for them any more."""
        for block in blocks:
            digest = block.digest()
            place = _place_of(digest)
            if self._announced[place : place + DIGEST_BYTES] == digest:
                self._announced[place : place + DIGEST_BYTES] = _NOTHING

    def take(self) -> mmap.mmap | None:
        """A slot, of whose last block nobody will read any more; None if there is none."""
        for _ in range(len(self._free)):
            slot = self._free.popleft()
            if self._label(slot, _NOTHING):
                return self._slots[slot]
            self._free.append(slot)
        return None

    def put(self, block: BlockId, memory: mmap.mmap) -> None:
        """``memory`` holds ``block`` until it is taken again, where it is of this shelf."""
        if (slot := self._number.get(id(memory))) is not None:
            self._label(slot, block.digest())

    def give_back(self, memory: mmap.mmap) -> bool:
        """It may be taken again; False where it is not of this shelf."""
        number = self._number.get(id(memory))
        if number is None:
            return False
        self._free.append(number)
        return True

    def show(self, block: BlockId, data: bytes) -> None:
        """The first bytes of ``block``, until as many others have been shown as there are slots."""
        if (memory := self.take()) is not None:
            memory[: len(data)] = data
            self.put(block, memory)
            self.give_back(memory)

    def rest(self) -> None:
        """Nothing is coming: the system gets the memory of what is not in use."""
        for slot in list(self._free):
            if self._label(slot, _NOTHING):
                self._slots[slot].madvise(mmap.MADV_REMOVE)

    def clear(self) -> None:
        """As it was in the beginning."""
        self._announced[:] = bytes(len(self._announced))
        for slot in range(len(self._slots)):
            self._label(slot, _NOTHING)

    def _label(self, slot: int, digest: bytes) -> bool:
        """Says what the slot holds; False while somebody copies from it."""
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._first + slot)
        except OSError:
            return False
        try:
            self._labels[slot * DIGEST_BYTES : (slot + 1) * DIGEST_BYTES] = digest
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, self._first + slot)
        return True

    # -- a worker's side ------------------------------------------------------------------------------

    def is_coming(self, digest: bytes) -> bool:
        """Whether that block is on its way to this shelf."""
        place = _place_of(digest)
        return self._announced[place : place + DIGEST_BYTES] == digest

    def copy(self, digest: bytes, start: int, stop: int) -> bytes | None:
        """Bytes ``[start, stop)`` of that block if they are here."""
        place = self._labels.find(digest)
        if place < 0 or place % DIGEST_BYTES or stop > self._block:  # a slot may be longer: whole pages
            return None
        slot = place // DIGEST_BYTES
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, self._first + slot)
        except OSError:
            return None
        try:
            same = self._labels[place : place + DIGEST_BYTES] == digest
            return self._slots[slot][start:stop] if same else None
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, self._first + slot)


def _place_of(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "little") % _COMING * DIGEST_BYTES
