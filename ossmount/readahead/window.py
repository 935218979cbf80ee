"""The window of large files: which blocks a read wants now, and which ahead. Pure; no I/O, no clock.

Blocks are canonical, so that equal bytes have one name in the cache: aligned to ``block_size`` from the
start of the extent; reads that do not follow another and are short want sub-blocks of 128 KiB instead,
so that a random read of 128 KiB fetches 128 KiB (256 KiB where it is not aligned) and not megabytes. A
sub-block lies within one block: there are none where ``block_size`` is no multiple of theirs.

READs of one program arrive out of order and by several processes, and where pages are pushed into the
kernel most never arrive: a stream goes on wherever a READ falls near its end or its frontier. What is
remembered here are hints in a bounded table; an answer never depends on them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from ossmount.config import ReadaheadSettings
from ossmount.model import BlockId, Extent

SUB_BLOCK = 128 << 10
"""What a read that follows no other fetches: the kernel's own default readahead."""

TOLERANCE = 2 << 20
"""Bytes by which READs of a stream may come early or late: two of the kernel's largest readaheads."""

CONFIRMED = 2
"""Reads that must follow the first one before anything is read ahead, unless that asks for a whole block from
the beginning: so reads a program that wants all of a file."""

EAGERNESS = 4
"""The window is so many times what the stream has read: it grows fivefold each time it is used up."""

GRADING = 8
"""A part begins at least so many times its own length ahead of the reader, or is a single block: through a
longer one the reader would go at the speed of one connection. Those far ahead have ``part_size``."""

TOP_UP = 4
"""A window is filled up when a quarter is used up. With half of it, what is in the air lands before the
reader has told that it went on, and connections idle; with less there are more tripwires."""

DEEPER = 2
"""Windows are so many times what may be in flight: something always waits for its turn, and what has landed
is the kernel's, not this process's memory."""

STREAMS_PER_FILE = 32
"""Threads reading one file that are told apart."""

OWN_WINDOW = 32 << 20
"""Most bytes that a process without prefetchers reads ahead of one stream."""

FILES = 256
"""Files whose streams are remembered."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """What one read leads to.

    ``wanted`` covers the read; ``sub`` says that it consists of sub-blocks. ``parts`` follow the stream, each
    to be fetched with one GET.
    """

    wanted: Sequence[BlockId]
    sub: bool
    parts: Sequence[Sequence[BlockId]] = ()


class _Stream:
    """One reader in one file; offsets within the extent."""

    __slots__ = ("end", "follows", "frontier", "start")

    def __init__(self, start: int, end: int, follows: int = 0) -> None:
        self.start = start
        self.end = end
        self.frontier = 0
        """Behind what was planned; 0 where nothing was."""
        self.follows = follows

    def takes(self, offset: int) -> bool:
        """Whether a read at ``offset`` belongs to this stream; the first that follows must be exact."""
        if self.follows == 0:
            return offset == self.end
        return self.end - TOLERANCE <= offset <= max(self.end, self.frontier) + TOLERANCE


class WindowPlanner:
    """Plans for all large files of one process. ``largest``: bytes that may be planned ahead of a stream."""

    def __init__(self, settings: ReadaheadSettings, largest: int | None = None) -> None:
        self._block = settings.block_size
        self._sub = settings.block_size if settings.block_size % SUB_BLOCK else SUB_BLOCK
        self._part = settings.part_size
        self._largest = DEEPER * settings.max_bytes if largest is None else largest
        self._files: OrderedDict[Extent, list[_Stream]] = OrderedDict()

    def __repr__(self) -> str:
        return f"WindowPlanner({len(self._files)} files)"

    def plan(self, extent: Extent, offset: int, size: int) -> WindowPlan:
        """For a read of ``size`` ≥ 1 bytes from ``offset``, which must lie within ``extent``."""
        stream = self._stream(extent, offset, offset + size)
        follows = stream.follows >= CONFIRMED
        sub = not follows and size <= self._block // 2
        wanted = blocks_of(extent, offset, size, self._sub if sub else self._block)
        if not follows or self._largest == 0:
            return WindowPlan(wanted, sub)
        window = min(self._largest, EAGERNESS * (stream.end - stream.start))
        return WindowPlan(wanted, sub, self._graded(extent, stream, window))

    def _stream(self, extent: Extent, offset: int, end: int) -> _Stream:
        streams = self._files.get(extent)
        if streams is None:
            streams = self._files[extent] = []
            if len(self._files) > FILES:
                self._files.popitem(last=False)
        else:
            self._files.move_to_end(extent)
        for i, stream in enumerate(streams):
            if stream.takes(offset):
                stream.follows += 1
                stream.end = max(stream.end, end)
                streams.append(streams.pop(i))
                _absorb(streams, stream)
                return stream
        whole = offset == 0 and end >= self._block
        streams.append(_Stream(offset, end, CONFIRMED if whole else 0))
        if len(streams) > STREAMS_PER_FILE:
            streams.pop(0)
        return streams[-1]

    def _graded(self, extent: Extent, stream: _Stream, window: int) -> list[Sequence[BlockId]]:
        """What lies ahead in parts, the nearest the shortest, that end where parts of ``part_size`` would."""
        parts: list[Sequence[BlockId]] = []
        blocks = self._ahead(extent, stream, window)
        while blocks:
            start = blocks[0].offset - extent.offset
            most = min(self._part - start % self._part, (start - stream.end) // GRADING)
            count = max(1, most // self._block)
            parts.append(blocks[:count])
            blocks = blocks[count:]
        return parts

    def _ahead(self, extent: Extent, stream: _Stream, window: int) -> list[BlockId]:
        """The next blocks, when a good part of the window has been used up."""
        if stream.frontier - stream.end >= window - window // TOP_UP:
            return []
        start = max(stream.frontier, _up(stream.end, self._block))
        stop = min(extent.length, _up(stream.end + window, self._block))
        if start >= stop:
            return []
        stream.frontier = stop
        return blocks_of(extent, start, stop - start, self._block)


def _absorb(streams: list[_Stream], stream: _Stream) -> None:
    """Makes one of ``stream`` and those that it has run into: READs that came out of order began them."""
    for other in [s for s in streams if s.start >= stream.start and s.start <= stream.end + TOLERANCE]:
        if other is not stream:
            streams.remove(other)
            stream.end = max(stream.end, other.end)
            stream.frontier = max(stream.frontier, other.frontier)
            stream.follows += other.follows


def blocks_of(extent: Extent, offset: int, size: int, block_size: int) -> list[BlockId]:
    """The aligned blocks of ``extent`` that cover ``[offset, offset + size)``, which must lie within it."""
    first, last = offset // block_size, (offset + size - 1) // block_size
    return [
        BlockId(
            extent.object, extent.offset + i * block_size, min(block_size, extent.length - i * block_size)
        )
        for i in range(first, last + 1)
    ]


def block_around(extent: Extent, sub: BlockId, block_size: int) -> BlockId:
    """The block of ``block_size`` that holds the sub-block ``sub``."""
    return blocks_of(extent, sub.offset - extent.offset, 1, block_size)[0]


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def own_window_of(settings: ReadaheadSettings) -> int:
    """Bytes that a process that answers programs reads ahead in large files itself.

    0 where prefetchers do it and push into the kernel, or nothing is read ahead. Memory must hold twice as
    much: what is read ahead must still be there when it is read.
    """
    by_others = settings.prefetchers > 0 and settings.push
    return 0 if by_others or settings.readahead == "off" else min(OWN_WINDOW, settings.max_bytes)
