"""What the kernel has in memory, told by the kernel: on a file system that can tell (tmpfs cannot in all
kernels), which tests skip otherwise, because they must drop pages to see the difference."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.cache import residency
from ossmount.cache.disk import DiskCache
from ossmount.cache.files import File
from ossmount.cache.residency import NAPS, SHUNNED, STEP, Range, ResidentReader, read_ahead, read_resident
from tests.support.mounting import wait_for
from tests.support.residency import resident_pages as pages_in_memory
from tests.unit.cache.blocks import MIB, block, content, put


def opened(path: Path) -> File:
    return File(os.open(path, os.O_RDONLY))


def drop(path: Path) -> None:
    """Has the kernel give up the file's pages."""
    file = opened(path)
    os.fsync(file.fd)
    os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)


def resident_pages(path: Path) -> int:
    """Pages of the file in memory (mincore(2)); reads none."""
    with path.open("rb") as file:
        return pages_in_memory(file.fileno(), path.stat().st_size)


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    """A file of 4 MiB whose pages are not in memory."""
    path = tmp_path / "file"
    path.write_bytes(content("file", 4 * MIB))
    drop(path)
    if resident_pages(path):
        pytest.skip("this file system does not drop pages")
    return path


def test_only_what_is_in_memory_is_read(dropped: Path) -> None:
    file = opened(dropped)
    assert read_resident(file, 100_000, 5_000) is None
    os.pread(file.fd, 100_000, 5_000)
    assert read_resident(file, 100_000, 5_000) == content("file", 4 * MIB)[5_000:105_000]


def test_the_end_of_a_file_is_not_a_block(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"0123456789")
    assert read_resident(opened(path), 20, 0) is None
    assert read_resident(opened(path), 10, 0) == b"0123456789"


def test_a_file_system_that_cannot_tell_is_read_the_long_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    def unsupported(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(residency.os, "preadv", unsupported)
    assert read_resident(opened(path), 10, 0) is None


def never_in_memory(*_: object) -> int:
    raise OSError(errno.EAGAIN, "would wait for the disk")


@pytest.mark.parametrize("answers_after", [1, 2])
def test_a_disk_that_answers_at_once_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers_after: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content("file", 4 * MIB))
    file, in_memory = opened(path), os.preadv
    naps: list[float] = []

    def late(*arguments: Any) -> int:
        return in_memory(*arguments) if len(naps) >= answers_after else never_in_memory()

    monkeypatch.setattr(residency.os, "preadv", late)
    reader = ResidentReader(naps.append)
    assert reader.read(file, 100_000, 5_000) == content("file", 4 * MIB)[5_000:105_000]
    assert naps == list(NAPS[:answers_after])
    assert reader.read(file, 10, 0) == content("file", 4 * MIB)[:10]
    assert len(naps) == answers_after  # it is in memory now


def test_a_slow_disk_is_not_waited_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    file = opened(path)
    naps: list[float] = []
    monkeypatch.setattr(residency.os, "preadv", never_in_memory)
    reader = ResidentReader(naps.append)
    for _ in range(1 + SHUNNED):
        assert reader.read(file, 10, 0) is None
    assert naps == list(NAPS)
    assert reader.read(file, 10, 0) is None
    assert naps == list(NAPS) * 2


def test_reading_ahead_brings_what_was_named(dropped: Path) -> None:
    file = opened(dropped)
    read_ahead([Range(file, 3 * MIB, MIB), Range(file, 0, 100_000)])
    assert read_resident(file, 100_000, 0) is not None
    assert read_resident(file, MIB, 3 * MIB) is not None


def test_reading_ahead_never_raises(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    file = opened(path)
    read_ahead([Range(file, 0, 2 * STEP), Range(file, 50 * MIB, STEP)])  # beyond the end
    reading, writing = os.pipe()
    os.close(writing)
    read_ahead([Range(File(reading), 0, 100)])  # has no pages at all


@given(st.lists(st.tuples(st.integers(0, 1 << 22), st.integers(1, 1 << 18)), max_size=30))
def test_merged_ranges_cover_all_and_little_more(spans: list[tuple[int, int]]) -> None:
    file = File(os.dup(0))
    merged = list(residency._merged(Range(file, offset, length) for offset, length in spans))
    ends = [(found.offset, found.offset + found.length) for found in merged]
    assert ends == sorted(ends)
    for offset, length in spans:
        assert any(start <= offset and offset + length <= end for start, end in ends)
    for (_, end), (start, _) in itertools.pairwise(ends):
        assert start - end > residency.GAP


class TestDiskCache:
    """The cache's own part of it."""

    def drop_segments(self, directory: Path) -> None:
        for path in directory.rglob("segment-*"):
            drop(path)
            if resident_pages(path):
                pytest.skip("this file system does not drop pages")

    def test_blocks_in_memory_need_no_thread(self, tmp_path: Path) -> None:
        cache = DiskCache(tmp_path, 16 * MIB)
        made = put(cache, "a", 70_000)
        assert cache.get_resident(made) == content("a", 70_000)
        assert cache.statistics().hits == 1

    def test_blocks_on_a_slow_disk_are_left_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(residency, "NAPS", ())
        cache = DiskCache(tmp_path, 16 * MIB)
        made = put(cache, "a", 70_000)
        self.drop_segments(tmp_path)
        assert cache.get_resident(made) is None
        assert (cache.statistics().hits, cache.statistics().misses) == (0, 0)
        has, bring = cache.reading_ahead([made, block("b", 10)])
        assert has == [True, False]
        bring()
        assert cache.get_resident(made) == content("a", 70_000)

    def test_what_it_has_not_and_what_is_large_and_after_close(self, tmp_path: Path) -> None:
        cache = DiskCache(tmp_path, 64 * MIB)
        assert cache.get_resident(block("none", 10)) is None
        large = put(cache, "large", residency.LARGEST + 1)
        assert cache.contains(large)
        assert cache.get_resident(large) is None
        small = put(cache, "small", 10)
        cache.close()
        assert cache.get_resident(small) is None
        assert cache.reading_ahead([small])[0] == [False]

    def test_damage_is_left_to_the_long_way(self, tmp_path: Path) -> None:
        cache = DiskCache(tmp_path, 16 * MIB)
        made = put(cache, "a", 70_000)
        (segment,) = tmp_path.rglob("segment-*")
        with segment.open("r+b") as file:
            file.seek(1000)
            file.write(b"damage")
        assert cache.get_resident(made) is None
        assert cache.get(made) is None
        assert cache.statistics().bad_blocks == 1

    def test_the_table_is_read_as_a_whole_where_a_part_is_missing(self, tmp_path: Path) -> None:
        cache = DiskCache(tmp_path, 16 * MIB)
        made = put(cache, "a", 100)
        (table,) = tmp_path.rglob("table-*")
        drop(table)
        if resident_pages(table):
            pytest.skip("this file system does not drop pages")
        assert cache.contains(made)
        wait_for(lambda: resident_pages(table) == -(-table.stat().st_size // mmap.PAGESIZE))
