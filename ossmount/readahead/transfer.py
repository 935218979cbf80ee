"""The blocking half of a fetch: disk cache, then store. Runs in the fetcher's threads, knows no loop."""

from __future__ import annotations

from typing import NamedTuple, cast

from ossmount.model import BlockId
from ossmount.protocols import BlockCache, OpenStore, PartialBlockCache
from ossmount.readahead.coalescing import Span, coalesce


class Fetched(NamedTuple):
    """The bytes of a span, block by block, and which of the blocks came from the store."""

    pieces: dict[BlockId, bytes]
    fresh: list[BlockId]
    requests: int


class Transfer:
    """Brings spans. Thread-safe as far as ``cache`` and the stores are."""

    def __init__(self, open_store: OpenStore, cache: BlockCache) -> None:
        self._open_store = open_store
        self._cache = cache
        self._partial = cache if isinstance(cache, PartialBlockCache) else None

    def fetch(self, span: Span, *, ask_cache: bool = True, views: bool = False) -> Fetched:
        """All blocks of ``span``. Neighbours that the cache lacks come in one GET. Raises StoreError.

        ``views``: blocks of one GET may be views of its body, which saves a copy and lives as long as they.
        """
        if span.around is not None and ask_cache and (found := self._inside(span, span.around)):
            return found
        if len(span.blocks) == 1:
            return self._fetch_one(span.blocks[0], ask_cache)
        pieces: dict[BlockId, bytes] = {}
        if ask_cache:
            for block in span.blocks:
                if (data := self._cache.get(block)) is not None:
                    pieces[block] = data
        missing = [block for block in span.blocks if block not in pieces]
        runs = coalesce(missing, span.length)
        for run in runs:
            pieces.update(self._get(run, views))
        return Fetched(pieces, missing, len(runs))

    def _inside(self, span: Span, around: BlockId) -> Fetched | None:
        """The span out of a longer block that the cache has, if that holds all of it."""
        data = self._cached_range(around, span.offset - around.offset, span.length)
        if data is None or len(data) < span.length:
            return None
        return Fetched(_cut(span, data, span.offset), [], 0)

    def _cached_range(self, block: BlockId, start: int, length: int) -> bytes | None:
        if self._partial is not None:
            return self._partial.get_range(block, start, length)
        data = self._cache.get(block)
        return None if data is None else data[start : start + length]

    def _fetch_one(self, block: BlockId, ask_cache: bool) -> Fetched:
        """Small files: the hot path, without the bookkeeping of runs."""
        data = self._cache.get(block) if ask_cache else None
        if data is not None:
            return Fetched({block: data}, [], 0)
        data = self._open_store(block.object.store).get_range(block.object, block.offset, block.length)
        return Fetched({block: data}, [block], 1)

    def _get(self, run: Span, views: bool) -> dict[BlockId, bytes]:
        body = self._open_store(run.object.store).get_range(run.object, run.offset, run.length)
        return {run.blocks[0]: body} if len(run.blocks) == 1 else _cut(run, body, run.offset, views)


def cut_body(span: Span, body: bytes, *, keep: bool) -> dict[BlockId, bytes]:
    """The blocks of ``span``, which is all of ``body``; to ``keep`` each has memory of its own."""
    if len(span.blocks) == 1:
        return {span.blocks[0]: bytes(body) if keep else body}
    return _cut(span, body, span.offset)


def _cut(span: Span, data: bytes, start: int, views: bool = False) -> dict[BlockId, bytes]:
    """The blocks of ``span`` out of ``data``, whose first byte is ``start`` of the object."""
    view = memoryview(data)
    parts = {b: view[b.offset - start : b.offset - start + b.length] for b in span.blocks}
    if views:  # read like bytes by all that is done with blocks of a prefetch: pushed, hashed, written
        return cast("dict[BlockId, bytes]", parts)
    return {block: bytes(part) for block, part in parts.items()}
