"""The thread that hands blocks to the cache: order, batches, the end, and what does not fit the queue."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import cast

import pytest

from ossmount.model import BlockId, ObjectId
from ossmount.readahead import keeping
from ossmount.readahead.keeping import Keeper
from tests.support.executors import DictCache


def block(name: str, length: int = 10) -> BlockId:
    return BlockId(ObjectId("s3://b", name, "e", length), 0, length)


class BatchCache(DictCache):
    """Notes how many blocks came together; the first batch waits for ``go``."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.go = threading.Event()
        self.begun = threading.Event()
        self.hurries: list[bool] = []

    def put_many(self, blocks: Sequence[tuple[BlockId, bytes]], *, hurry: bool = False) -> None:
        self.begun.set()
        assert self.go.wait(20)
        self.hurries.append(hurry)
        self.batches.append(len(blocks))
        self.blocks.update(blocks)


def test_what_waits_is_put_together() -> None:
    cache = BatchCache()
    keeper = Keeper(cache)
    keeper.keep([(block("first"), b"0" * 10)])
    assert cache.begun.wait(20)
    for i in range(40):
        keeper.keep([(block(f"k{i}"), b"x" * 10)])
    cache.go.set()
    keeper.close(20)
    assert cache.batches == [1, 32, 8]
    assert len(cache.blocks) == 41


class Body(bytearray):
    """Tells when nobody refers to it any more."""

    freed: threading.Event

    def __del__(self) -> None:
        self.freed.set()


class ForgetfulCache(DictCache):
    """Keeps nothing."""

    def put(self, block: BlockId, data: bytes) -> None:
        pass


def test_what_was_put_is_not_held_while_nothing_is_to_be_put() -> None:
    keeper = Keeper(ForgetfulCache())
    body = Body(10)
    freed = body.freed = threading.Event()
    keeper.keep([(block("a"), cast("bytes", body))])
    del body
    assert freed.wait(5)
    keeper.close(20)


def test_done_is_called_after_the_put() -> None:
    cache, seen = DictCache(), []
    keeper = Keeper(cache)
    keeper.keep([(block("a"), b"x" * 10)], lambda: seen.append(block("a") in cache.blocks))
    keeper.keep([], lambda: seen.append(len(cache.blocks) == 1))
    keeper.close(20)
    assert seen == [True, True]


class BrokenCache(DictCache):
    def put(self, block: BlockId, data: bytes) -> None:
        self.puts += 1
        raise RuntimeError("no cache should")


def test_a_cache_that_raises_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    cache, done = BrokenCache(), list[str]()
    keeper = Keeper(cache)
    keeper.keep([(block("a"), b"x" * 10)], partial(done.append, "a"))
    large = b"x" * (keeping.QUEUED_BYTES + 1)
    keeper.keep([(block("large", len(large)), large)], partial(done.append, "large"))
    keeper.keep([(block("b"), b"x" * 10)], partial(done.append, "b"))
    keeper.close(20)
    assert sorted(done) == ["a", "b", "large"]
    assert cache.puts >= 2
    assert repr(keeper) == "Keeper(0 bytes queued)"
    assert len(caplog.records) == 1


def test_a_full_queue_makes_the_caller_write() -> None:
    cache = BatchCache()
    keeper = Keeper(cache)
    keeper.keep([(block("first"), b"0" * 10)])
    assert cache.begun.wait(20)
    cache.go.set()
    large = b"x" * (keeping.QUEUED_BYTES + 1)
    keeper.keep([(block("large", len(large)), large)])
    assert block("large", len(large)) in cache.blocks
    keeper.close(20)


def test_a_disk_that_does_not_keep_up_is_told_to_hurry() -> None:
    cache, size = BatchCache(), keeping.QUEUED_BYTES // 4
    keeper = Keeper(cache)
    for i in range(4):
        keeper.keep([(block(f"k{i}", size), bytes(size))])
        assert cache.begun.wait(20)
    cache.go.set()
    keeper.close(20)
    assert cache.hurries == [False, True, False], "the last is within its room again"


def test_a_stream_leaves_out_what_the_disk_cannot_take() -> None:
    cache, size = BatchCache(), keeping.STREAM_BYTES // 4
    keeper, done = Keeper(cache), list[int]()
    for i in range(8):
        keeper.keep([(block(f"k{i}", size), bytes(size))], partial(done.append, i), stream=True)
        assert cache.begun.wait(20)
    assert done == [4, 5, 6, 7], "nobody waits for the disk"
    assert keeper.left_out == 4
    cache.go.set()
    keeper.close(20)
    assert sorted(done) == list(range(8))
    assert set(cache.blocks) == {block(f"k{i}", size) for i in range(4)}
    assert not any(cache.hurries)


def test_without_a_thread_and_after_the_end_it_puts_at_once() -> None:
    cache = DictCache()
    keeper = Keeper(cache, threaded=False)
    keeper.keep([(block("a"), b"x" * 10)])
    assert list(cache.blocks) == [block("a")]
    keeper.close(20)
    late = Keeper(cache)
    late.close(20)
    late.keep([(block("b"), b"x" * 10)])
    assert cache.puts == 2
