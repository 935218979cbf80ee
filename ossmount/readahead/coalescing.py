"""Which GETs bring the wanted blocks: neighbours are joined into spans. Pure; may know level 0 only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ossmount.model import BlockId, ObjectId


class Span(NamedTuple):
    """Blocks of one object version that follow each other without a gap: what one GET brings."""

    blocks: tuple[BlockId, ...]
    around: BlockId | None = None
    """A longer block that holds all of the span, where the cache may have that one instead."""

    @property
    def object(self) -> ObjectId:
        """The object version that holds the bytes."""
        return self.blocks[0].object

    @property
    def offset(self) -> int:
        """First byte within the object."""
        return self.blocks[0].offset

    @property
    def length(self) -> int:
        """Bytes of all blocks together."""
        last = self.blocks[-1]
        return last.offset + last.length - self.blocks[0].offset


def coalesce(blocks: Sequence[BlockId], largest: int) -> list[Span]:
    """``blocks`` (in order of offset, without overlaps) as spans of up to ``largest`` bytes.

    A single block that is longer than ``largest`` is a span of its own: blocks are never cut.
    """
    spans: list[Span] = []
    run: list[BlockId] = []
    length = 0
    for block in blocks:
        if run and (not _adjoin(run[-1], block) or length + block.length > largest):
            spans.append(Span(tuple(run)))
            run, length = [], 0
        run.append(block)
        length += block.length
    if run:
        spans.append(Span(tuple(run)))
    return spans


def _adjoin(left: BlockId, right: BlockId) -> bool:
    return left.offset + left.length == right.offset and left.object == right.object


def cut(pieces: Mapping[BlockId, bytes], start: int, end: int) -> bytes:
    """Bytes ``[start, end)`` of the object out of blocks that cover them and may overlap."""
    parts, position = [], start
    for block in sorted(pieces, key=lambda block: block.offset):
        if block.offset + block.length > position:
            parts.append(pieces[block][position - block.offset : end - block.offset])
            position = block.offset + block.length
    return b"".join(parts)  # of one bytes object: that object itself
