"""The document of the layout names what the code uses."""

from __future__ import annotations

from pathlib import Path

from ossmount.cache import disk, disk_layout, policy
from ossmount.cache.disk_layout import State

TEXT = (Path(__file__).parents[3] / "docs" / "cache-format.md").read_text()


def test_names_and_numbers_of_the_layout_are_documented() -> None:
    plain = " ".join(TEXT.split())
    assert f"# The disk cache: layout {disk_layout.VERSION}\n" in TEXT
    for name in (disk_layout.FOLDER, disk_layout.STATE_NAME, disk_layout.LOCK_NAME, disk_layout.GHOSTS_NAME):
        assert f"`{name}" in TEXT
    assert f"buckets of {disk_layout.BUCKET_SLOTS} slots" in plain
    assert f"A slot is {disk_layout.SLOT.size} bytes" in plain
    assert f"At {disk_layout.FULL} blocks per slot" in plain
    assert f"1/{disk_layout.SEGMENTS_WANTED} of the capacity" in plain
    assert f"below {disk_layout.LEAST_CAPACITY >> 20} MiB" in plain
    assert f"every 1/{disk.TELL_SHARE} of the capacity" in plain


def test_numbers_of_the_policy_are_documented() -> None:
    plain = " ".join(TEXT.split())
    assert f"more than {policy.PATIENCE} times the mean" in plain
    assert f"at least 1/{round(1 / policy.LEAST_IDLE)} of the capacity" in plain
    assert f"idle for {policy.ABANDONED} capacities" in plain
    assert policy.PROOF == 1 / 4
    assert policy.DOUBT == 1 / 8


def test_the_state_has_the_documented_size() -> None:
    empty = State(capacity=1, table_epoch=1, buckets=16)
    header = 8 + 4 + 4 + 8 + 8 + 8 + 8 + 4 + 4 + 8
    assert len(empty.pack()) == header
    empty.segments.append(disk_layout.Segment(1, 1))
    assert len(empty.pack()) == header + 4 + 4 + 4 + 4 + 8
