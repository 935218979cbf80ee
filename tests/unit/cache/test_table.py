"""The table alone: full buckets, slots of others, growth in several steps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossmount.cache import table as module
from ossmount.cache.disk_layout import BUCKET_BYTES, BUCKET_SLOTS
from ossmount.cache.files import File
from ossmount.cache.table import Place, Table, TableGone


def opened(path: Path, buckets: int) -> File:
    file = File(os.open(path, os.O_RDWR | os.O_CREAT))
    os.ftruncate(file.fd, buckets * BUCKET_BYTES)
    return file


def digest(bucket: int, which: int) -> bytes:
    return bucket.to_bytes(8, "little") + (which + 1).to_bytes(8, "little")


def always(_number: int) -> bool:
    return True


def full(path: Path) -> tuple[Table, list[Place]]:
    """Two buckets, both full; of the second the tenth slot is the oldest."""
    table = Table(opened(path, 2), 2)
    places = [Place(100 - i if i <= 10 else 100 + i, i, i) for i in range(BUCKET_SLOTS)]
    for i, place in enumerate(places):
        table.insert(digest(0, i), place, always)
        table.insert(digest(1, i), place, always)
    return table, places


@pytest.mark.parametrize(("dead", "gone"), [(None, 10), (97, 3), (120, 20)])
def test_a_full_bucket_gives_up_a_dead_segments_slot_or_the_oldest(
    tmp_path: Path, dead: int | None, gone: int
) -> None:
    table, places = full(tmp_path / "table")
    table.insert(digest(1, 99), Place(500, 7, 8), lambda number: number != dead)
    assert table.find(digest(1, 99)) == Place(500, 7, 8)
    for i, place in enumerate(places):
        assert table.find(digest(1, i)) == (None if i == gone else place)
        assert table.find(digest(0, i)) == place


def test_only_the_slot_that_says_so_is_erased(tmp_path: Path) -> None:
    table, places = full(tmp_path / "table")
    table.erase(digest(1, 0), Place(1, 2, 3))
    table.erase(digest(1, 99), places[0])
    assert [table.find(digest(b, i)) for b in (0, 1) for i in range(BUCKET_SLOTS)] == [*places, *places]
    table.erase(digest(1, 0), places[0])
    assert table.find(digest(1, 0)) is None


def test_growth_in_several_steps_keeps_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GROWTH_CHUNK", 3 * BUCKET_BYTES)
    small = Table(opened(tmp_path / "small", 8), 8)
    places = {digest(i % 16, i): Place(i + 1, i, i) for i in range(100)}
    for name, place in places.items():
        small.insert(name, place, always)
    file = opened(tmp_path / "large", 16)
    small.double_into(file)
    large = Table(file, 16)
    assert {name: large.find(name) for name in places} == places


def test_a_table_that_was_cut_is_gone_for_finding_and_for_growing(tmp_path: Path) -> None:
    file = opened(tmp_path / "small", 8)
    os.ftruncate(file.fd, 6 * BUCKET_BYTES)
    with pytest.raises(TableGone):
        Table(file, 8).find(digest(7, 1))
    with pytest.raises(TableGone):
        Table(file, 8).double_into(opened(tmp_path / "large", 16))
