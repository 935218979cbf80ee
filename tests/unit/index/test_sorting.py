"""The external sort gives back every row, in order, and leaves no file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossmount.index.sorting import Sorter
from ossmount.model import Entry, EntryBatch, Extent, ObjectId
from ossmount.sources.columns import EARLIEST_SECOND, LATEST_SECOND

row = st.builds(
    lambda path, store, key, etag, size, offset, label, time: Entry(
        path, Extent(ObjectId(store, key, etag, size + offset), offset, size), label, time
    ),
    st.binary(max_size=3),
    st.sampled_from(["s3://a", "oss://b"]),
    st.sampled_from(["k", "é", "\udcff not UTF-8", ""]),
    st.sampled_from(["", "e" * 32]),
    st.integers(0, 2**40),
    st.sampled_from([0, 512]),
    st.sampled_from([None, "", "cat", "\udcfe"]),
    st.one_of(
        st.integers(-(10**18), 2 * 10**18),
        st.integers(EARLIEST_SECOND * 10**9, LATEST_SECOND * 10**9),  # 64 bits do not hold all of these
    ),
)


@given(
    st.lists(st.lists(row, min_size=1, max_size=12), max_size=12),
    st.sampled_from([1, 600, 10**9]),
    st.sampled_from([2, 32]),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_comes_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: list[list[Entry]], piece: int, fan_in: int
) -> None:
    monkeypatch.setattr("ossmount.index.sorting._FAN_IN", fan_in)
    monkeypatch.setattr("ossmount.index.sorting._PIECE_BYTES", piece)
    monkeypatch.setattr("ossmount.index.sorting._BLOCK_ROWS", 3)
    with Sorter(tmp_path / "x") as sorter:
        for batch in batches:
            sorter.add(EntryBatch.of(batch))
        found = [entry for batch in sorter.merged() for entry in batch.entries()]
        if piece == 1:
            # Merged by two, what is left is what the binary number has ones.
            pieces = len(batches) if fan_in > len(batches) else len(batches).bit_count()
            assert len(list(tmp_path.iterdir())) == pieces
    rows = [entry for batch in batches for entry in batch]
    assert [entry.path for entry in found] == sorted(entry.path for entry in rows)
    assert sorted(map(repr, found)) == sorted(map(repr, rows))
    assert list(tmp_path.iterdir()) == []
