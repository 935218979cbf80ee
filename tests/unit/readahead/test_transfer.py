from __future__ import annotations

from ossmount.model import BlockId
from ossmount.readahead.coalescing import Span
from ossmount.readahead.transfer import Transfer
from tests.support.executors import DictCache
from tests.support.memory_store import MemoryStore, opener

DATA = bytes(i % 251 for i in range(1000))


class RangedDictCache(DictCache):
    """Also gives parts of blocks, and says which it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[int, int]] = []

    def contains(self, block: object) -> bool:
        return block in self.blocks

    def get_range(self, block: object, start: int, length: int) -> bytes | None:
        self.ranges.append((start, length))
        data = self.blocks.get(block)
        return None if data is None else data[start : start + length]


def blocks(store: MemoryStore, *ranges: tuple[int, int]) -> tuple[BlockId, ...]:
    return tuple(BlockId(store.id_of("k"), offset, length) for offset, length in ranges)


def test_only_the_runs_that_the_cache_lacks_are_fetched() -> None:
    store, cache = MemoryStore("s3://b", {"k": DATA}), DictCache()
    span = Span(blocks(store, *((i * 100, 100) for i in range(10))))
    cache.blocks[span.blocks[4]] = DATA[400:500]
    fetched = Transfer(opener(store), cache).fetch(span)
    assert b"".join(fetched.pieces[block] for block in span.blocks) == DATA
    assert fetched.requests == store.requests["GET"] == 2
    assert span.blocks[4] not in fetched.fresh


def test_what_came_from_the_store_is_fresh() -> None:
    store, cache = MemoryStore("s3://b", {"k": DATA}), DictCache()
    transfer = Transfer(opener(store), cache)
    span = Span(blocks(store, (0, 100), (100, 100)))
    fetched = transfer.fetch(span)
    assert fetched.fresh == list(span.blocks)
    cache.blocks.update(fetched.pieces)
    assert transfer.fetch(span).fresh == []


def test_part_of_a_longer_cached_block_is_taken_from_it() -> None:
    for cache in (DictCache(), RangedDictCache()):
        store = MemoryStore("s3://b", {"k": DATA})
        (around,) = blocks(store, (200, 400))
        span = Span(blocks(store, (300, 50), (350, 50)), around)
        cache.blocks[around] = DATA[200:600]
        fetched = Transfer(opener(store), cache).fetch(span)
        assert [fetched.pieces[block] for block in span.blocks] == [DATA[300:350], DATA[350:400]]
        assert (fetched.requests, store.requests["GET"]) == (0, 0)
        if isinstance(cache, RangedDictCache):
            assert (cache.ranges, cache.gets) == ([(100, 100)], 0)


def test_a_cached_block_that_holds_but_a_part_is_left_alone() -> None:
    for cache in (DictCache(), RangedDictCache()):
        store = MemoryStore("s3://b", {"k": DATA})
        (around,) = blocks(store, (200, 100))
        span = Span(blocks(store, (250, 50), (300, 50)), around)
        cache.blocks[around] = DATA[200:300]
        fetched = Transfer(opener(store), cache).fetch(span)
        assert [fetched.pieces[block] for block in span.blocks] == [DATA[250:300], DATA[300:350]]


def test_a_longer_block_that_is_not_cached_costs_nothing() -> None:
    store, cache = MemoryStore("s3://b", {"k": DATA}), RangedDictCache()
    (around,) = blocks(store, (200, 400))
    fetched = Transfer(opener(store), cache).fetch(Span(blocks(store, (300, 50)), around))
    assert list(fetched.pieces.values()) == [DATA[300:350]]
    assert fetched.requests == 1
