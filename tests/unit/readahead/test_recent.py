from __future__ import annotations

from ossmount.model import BlockId, ObjectId
from ossmount.readahead.recent import RecentBlocks

OBJECT = ObjectId("s3://b", "k", "e", 1000)


def block(i: int) -> BlockId:
    return BlockId(OBJECT, i * 10, 10)


def test_the_least_recently_used_goes_first() -> None:
    recent = RecentBlocks(30)
    for i in range(3):
        recent.put(block(i), bytes([i]) * 10)
    assert recent.get(block(0)) == bytes(10)
    recent.put(block(3), b"x" * 10)
    assert recent.get(block(1)) is None
    assert recent.get(block(0)) is not None


def test_what_is_larger_than_the_whole_is_declined_and_twice_the_same_counts_once() -> None:
    recent = RecentBlocks(25)
    recent.put(BlockId(OBJECT, 0, 30), b"x" * 30)
    for _ in range(5):
        recent.put(block(1), b"x" * 10)
    recent.put(block(2), b"y" * 10)
    assert recent.get(BlockId(OBJECT, 0, 30)) is None
    assert recent.get(block(1)) is not None
    recent.close()
    assert recent.get(block(1)) is None
