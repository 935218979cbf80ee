from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ossmount.model import BlockId, ObjectId
from ossmount.readahead.coalescing import coalesce

OBJECT = ObjectId("s3://b", "k", "e", 1 << 20)


@st.composite
def sorted_blocks(draw: st.DrawFn) -> list[BlockId]:
    blocks, offset = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 50)), max_size=30)):
        offset += gap
        blocks.append(BlockId(OBJECT, offset, length))
        offset += length
    return blocks


@given(sorted_blocks(), st.integers(1, 120))
def test_spans_hold_every_block_once_in_order_without_gaps(blocks: list[BlockId], largest: int) -> None:
    spans = coalesce(blocks, largest)
    assert [block for span in spans for block in span.blocks] == blocks
    for span in spans:
        assert span.length == sum(block.length for block in span.blocks)
        assert span.length <= largest or len(span.blocks) == 1


@given(sorted_blocks(), st.integers(1, 120))
def test_neighbouring_spans_could_not_have_been_one(blocks: list[BlockId], largest: int) -> None:
    spans = coalesce(blocks, largest)
    for left, right in itertools.pairwise(spans):
        adjoin = left.offset + left.length == right.offset
        assert not adjoin or left.length + right.blocks[0].length > largest


def test_versions_do_not_mix() -> None:
    other = OBJECT._replace(etag="f")
    assert len(coalesce([BlockId(OBJECT, 0, 10), BlockId(other, 10, 10)], 100)) == 2
