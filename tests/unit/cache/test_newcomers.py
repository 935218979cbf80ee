"""Newcomers to a full cache are remembered, in a file whose size is part of the cap."""

from __future__ import annotations

import os
from pathlib import Path

from ossmount.cache.disk_layout import GHOST_BYTES, ghost_entries, segment_size
from ossmount.cache.files import File
from ossmount.cache.newcomers import Newcomers
from tests.unit.cache.blocks import MIB, block

CAPACITY = 64 * MIB


def newcomers(path: Path, capacity: int) -> Newcomers:
    return Newcomers(File(os.open(path, os.O_RDWR | os.O_CREAT, 0o600)), capacity)


def offer(to: Newcomers, names: range, now: int) -> list[int | None]:
    """Offers one after the other, of a quarter of a segment together, to a cache that nobody reads."""
    length = segment_size(CAPACITY) // 4 // len(names) + 1
    return [to.required_idle(block(f"k{i}", 100).digest(), length, now, now) for i in names]


def test_those_that_come_again_after_the_file_was_opened_anew_have_a_segment_given_up(tmp_path: Path) -> None:
    path = tmp_path / "declined"
    assert offer(newcomers(path, CAPACITY), range(4), CAPACITY) == [None] * 4
    assert path.stat().st_size == ghost_entries(CAPACITY) * GHOST_BYTES
    again = offer(newcomers(path, CAPACITY), range(4), 5 * CAPACITY // 4)
    assert again[:3] == [None] * 3
    assert again[3] is not None
    assert 0.7 * CAPACITY < again[3] < 0.8 * CAPACITY, "thrice the distance"


def test_a_file_that_another_process_cut_is_not_made_larger(tmp_path: Path) -> None:
    path = tmp_path / "declined"
    larger, smaller = newcomers(path, CAPACITY), newcomers(path, 2 * MIB)
    cut = ghost_entries(2 * MIB) * GHOST_BYTES
    assert path.stat().st_size == cut < ghost_entries(CAPACITY) * GHOST_BYTES
    offer(larger, range(100), CAPACITY)
    assert path.stat().st_size == cut
    offer(smaller, range(100), CAPACITY)
    assert path.stat().st_blocks > 0
