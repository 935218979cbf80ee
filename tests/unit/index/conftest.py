"""What the tests of the index room share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ossmount.index import LmdbIndex, build, open_index
from ossmount.model import Entry, EntryBatch, Extent, ObjectId

BuildIndex = Callable[..., LmdbIndex]


def entry(path: str | bytes, size: int = 1, etag: str = "", label: str | None = None, key: str = "") -> Entry:
    """An entry whose key is its path and whose ETag is made from it."""
    raw = path if isinstance(path, bytes) else path.encode()
    key = key or raw.decode("utf-8", "surrogateescape")
    return Entry(
        raw, Extent(ObjectId("s3://bucket", key, etag or "e-" + key[:9], size), 0, size), label, 10**9
    )


@pytest.fixture
def make_index(tmp_path: Path) -> Iterator[BuildIndex]:
    """Builds an index of entries (in batches of 7) and opens it."""
    with ExitStack() as stack:
        count = 0

        def make(entries: list[Entry], **options: Any) -> LmdbIndex:
            nonlocal count
            count += 1
            path = tmp_path / f"made{count}.idx"
            batches = (EntryBatch.of(entries[i : i + 7]) for i in range(0, len(entries), 7))
            build(batches, path, source="test", **options)
            return stack.enter_context(open_index(path))

        yield make
