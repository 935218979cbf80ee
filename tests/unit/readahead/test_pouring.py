"""Bodies cut into blocks: whatever the pieces, the blocks are right, and their memory comes back."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ossmount.model import BlockId, Extent, ObjectId
from ossmount.readahead.pouring import Buffers, Filled, Pouring
from ossmount.readahead.window import blocks_of
from ossmount.stores.range_get import pour

BLOCK = 100


def blocks(length: int) -> list[BlockId]:
    target = ObjectId("s3://b", "k", "e", length)
    return blocks_of(Extent(target, 0, length), 0, length, BLOCK)


@given(st.integers(1, 1000), st.lists(st.integers(0, 350), max_size=30))
def test_blocks_are_the_body_whatever_its_pieces(length: int, sizes: list[int]) -> None:
    body = random.Random(length).randbytes(length)
    pieces, position = [], 0
    for size in [*sizes, length]:
        pieces.append(body[position : position + size])
        position += size
    buffers, filled = Buffers(BLOCK), list[Filled]()
    pouring = Pouring(blocks(length), buffers, filled.append)
    for piece in pieces:
        pour(pouring, piece)
    assert [one.block for one in filled] == blocks(length)
    assert b"".join(one.data for one in filled) == body
    for one in filled:
        buffers.give_back(one.memory)
    assert buffers.lent == 0


def test_memory_serves_again() -> None:
    buffers, filled = Buffers(BLOCK), list[Filled]()
    for _ in range(3):
        pour(Pouring(blocks(BLOCK), buffers, filled.append), bytes(BLOCK))
        buffers.give_back(filled[-1].memory)
    assert len({id(one.memory) for one in filled}) == 1


def test_what_breaks_off_gives_its_memory_back() -> None:
    buffers, filled = Buffers(BLOCK), list[Filled]()
    pouring = Pouring(blocks(1000), buffers, filled.append)
    pour(pouring, bytes(250))
    assert (len(filled), buffers.lent) == (2, 3 * 4096)
    pouring.stop()
    assert buffers.lent == 2 * 4096


def test_what_rests_keeps_no_memory() -> None:
    buffers = Buffers(BLOCK)
    first, second = buffers.take(), buffers.take()
    buffers.give_back(first)
    assert repr(buffers) == "Buffers(4096 bytes lent, 1 spare)"
    buffers.rest()
    assert repr(buffers) == "Buffers(4096 bytes lent, 0 spare)"
    buffers.give_back(second)
    assert repr(buffers) == "Buffers(0 bytes lent, 0 spare)"


def test_only_blocks_of_large_files_suit() -> None:
    buffers = Buffers(BLOCK)
    assert buffers.suit(blocks(1000)[3:])
    assert not buffers.suit(blocks(99))
    target = ObjectId("s3://b", "k", "e", 500)
    assert not buffers.suit([BlockId(target, 0, 500)])
