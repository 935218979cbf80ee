"""What one process holds of a shared cache: a segment to write to, and news that it has not told yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile

from ossmount.cache.direct import DirectWriter
from ossmount.cache.files import File, write_parts


@dataclass(slots=True)
class Pending:
    """What this process has done since it last told the others."""

    traffic: int = 0
    """Bytes of blocks that were read, stored, or declined for want of room."""
    touched: set[int] = field(default_factory=set)
    """Numbers of segments that were read."""
    blocks: dict[int, int] = field(default_factory=dict)
    """How many blocks were stored, by segment number."""

    def add(self, other: Pending) -> None:
        """Takes back what could not be told."""
        self.traffic += other.traffic
        self.touched |= other.touched
        for number, count in other.blocks.copy().items():  # a thread may be counting there still
            self.blocks[number] = self.blocks.get(number, 0) + count


@dataclass(slots=True)
class Lease:
    """A segment that this process alone appends to while it keeps ``file`` (and so its lock) open."""

    number: int
    file: File
    size: int
    """Bytes it may grow to."""
    position: int
    """Where the next block goes, in bytes from the beginning."""

    def fitting(self, parts: Sequence[bytes]) -> int:
        """How many of ``parts`` there is room for, one behind the other."""
        ends = accumulate(map(len, parts), initial=self.position)
        return sum(1 for _ in takewhile(lambda end: end <= self.size, ends)) - 1

    def append_many(self, parts: Sequence[bytes], direct: DirectWriter | None = None) -> list[int]:
        """Writes ``parts`` behind the last block, in one go, past the page cache where ``direct`` can.

        Returns their offsets. Raises OSError; then nothing moved.
        """
        written = direct.write(self.file, parts, self.position, self.size) if direct is not None else None
        if written is None:
            write_parts(self.file.fd, parts, self.position)
        start, end = written or (self.position, None)
        offsets = list(accumulate(map(len, parts), initial=start))
        self.position = end or offsets[-1]
        return offsets[:-1]
