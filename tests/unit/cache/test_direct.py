"""Blocks written past the page cache: the same bytes at the places that were told, padding between."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.cache import direct
from ossmount.cache.direct import ALIGNMENT, BUFFER_BYTES, LEAST_BYTES, DirectWriter
from ossmount.cache.disk import DiskCache
from ossmount.cache.files import File
from ossmount.cache.shares import Lease
from tests.unit.cache.blocks import MIB, block, content

SEGMENT = 16 * MIB


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    file = File(os.open(tmp_path / "segment", os.O_RDWR | os.O_CREAT))
    writer = DirectWriter()
    if writer.write(file, [bytes(LEAST_BYTES)], 0, SEGMENT) is None:
        pytest.skip("this file system has no direct writes")
    os.ftruncate(file.fd, 0)
    return Lease(1, file, SEGMENT, 0)


def read_back(lease: Lease, parts: list[bytes], offsets: list[int]) -> None:
    for part, offset in zip(parts, offsets, strict=True):
        assert os.pread(lease.file.fd, len(part), offset) == part


SIZES = st.lists(st.integers(1, 300_000), min_size=1, max_size=12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=5), st.integers(0, 9))
def test_direct_and_other_writes_follow_each_other(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[list[int], bool]], seed: int
) -> None:
    path = tmp_path_factory.mktemp("direct") / "segment"
    lease, writer = Lease(1, File(os.open(path, os.O_RDWR | os.O_CREAT)), SEGMENT, 0), DirectWriter()
    chance = random.Random(seed)
    written: list[tuple[list[bytes], list[int]]] = []
    for sizes, past in batches:
        parts = [chance.randbytes(size) for size in sizes]
        parts = parts[: lease.fitting(parts)]
        if not parts:
            continue
        before = lease.position
        offsets = lease.append_many(parts, writer if past else None)
        assert offsets[0] >= before
        assert lease.position >= offsets[-1] + len(parts[-1])
        written.append((parts, offsets))
    for parts, offsets in written:
        read_back(lease, parts, offsets)
    assert lease.position <= lease.size
    assert os.fstat(lease.file.fd).st_size == lease.position


def test_more_than_the_buffer_holds(lease: Lease) -> None:
    parts = [random.Random(i).randbytes(1_100_001) for i in range(5)]
    offsets = lease.append_many(parts, DirectWriter())
    assert sum(map(len, parts)) > 2 * BUFFER_BYTES
    assert lease.position % ALIGNMENT == 0
    read_back(lease, parts, offsets)


def test_aligned_memory_is_written_as_it_is(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole mappings need no staging buffer; parts of them, and their mixture with others, do."""
    memory = [mmap.mmap(-1, MIB) for _ in range(3)]
    for number, one in enumerate(memory):
        one[:] = random.Random(number).randbytes(MIB)
    writer, views = DirectWriter(), [memoryview(one) for one in memory]
    monkeypatch.setattr(DirectWriter, "_write", lambda *_: pytest.fail("it was copied"))
    offsets = lease.append_many(views, writer)  # type: ignore[arg-type]  # read like bytes
    monkeypatch.undo()
    mixed = [views[0][: MIB - 4096], b"x" * 5000, views[2]]
    more = lease.append_many(mixed, writer)  # type: ignore[arg-type]
    read_back(lease, [bytes(view) for view in views], offsets)
    read_back(lease, [bytes(view) for view in mixed], more)


def test_it_does_not_fill_the_page_cache(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written directly went through the descriptor that is open for it, and no other."""
    flags: list[int] = []
    write = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        with open(f"/proc/self/fdinfo/{fd}") as info:  # noqa: PTH123 - a pseudo file
            flags.append(int(next(line for line in info if line.startswith("flags")).split()[1], 8))
        return write(fd, data, offset)

    monkeypatch.setattr(direct.os, "pwrite", pwrite)
    lease.append_many([bytes(LEAST_BYTES)], DirectWriter())
    assert flags
    assert all(flag & os.O_DIRECT for flag in flags)


def test_too_little_or_no_room_for_the_padding_is_written_as_ever(lease: Lease) -> None:
    writer = DirectWriter()
    assert writer.write(lease.file, [bytes(LEAST_BYTES - 1)], 0, SEGMENT) is None
    assert writer.write(lease.file, [bytes(LEAST_BYTES)], SEGMENT - LEAST_BYTES - 1, SEGMENT - 1) is None
    lease.position, lease.size = SEGMENT - LEAST_BYTES - 1, SEGMENT - 1
    assert lease.append_many([bytes(LEAST_BYTES)], writer) == [SEGMENT - LEAST_BYTES - 1]
    assert lease.position == SEGMENT - 1


def test_a_file_system_that_refuses_is_not_asked_again(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def pwrite(fd: int, data: object, offset: int) -> int:
        asked.append(fd)
        raise OSError(errno.EINVAL, "Invalid argument")

    writer = DirectWriter()
    monkeypatch.setattr(direct.os, "pwrite", pwrite)
    for _ in range(3):
        offsets = lease.append_many([b"x" * LEAST_BYTES], writer)
        read_back(lease, [b"x" * LEAST_BYTES], offsets)
    assert len(asked) == 1


def test_a_full_disk_is_an_error_and_moves_nothing(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(fd: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(direct.os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space left"):
        lease.append_many([b"x" * LEAST_BYTES], DirectWriter())
    assert lease.position == 0


@pytest.mark.parametrize("mapped", [False, True])
def test_what_a_nearly_full_disk_leaves_is_written_the_other_way(
    lease: Lease, monkeypatch: pytest.MonkeyPatch, mapped: bool
) -> None:
    """A direct write may end early, after whole pages."""
    pwrite, pwritev = os.pwrite, os.pwritev
    data = [random.Random(1).randbytes(MIB), random.Random(2).randbytes(MIB)]
    parts = data
    if mapped:
        memory = [mmap.mmap(-1, MIB) for _ in data]
        for one, content_of_one in zip(memory, data, strict=True):
            one[:] = content_of_one
        parts = [memoryview(one) for one in memory]  # type: ignore[misc]  # read like bytes
    with monkeypatch.context() as short:
        short.setattr(direct.os, "pwritev", lambda fd, some, at: pwritev(fd, [some[0][:8192]], at))
        short.setattr(direct.os, "pwrite", lambda fd, some, at: pwrite(fd, some[:8192], at))
        offsets = lease.append_many(parts, DirectWriter())
    read_back(lease, data, offsets)


def test_a_restart_goes_on_behind_the_padding(tmp_path: Path) -> None:
    many = [(block(f"k{i}", 70_001), content(f"k{i}", 70_001)) for i in range(30)]
    DiskCache(tmp_path, 64 * MIB).put_many(many[:10])
    DiskCache(tmp_path, 64 * MIB).put_many(many[10:], hurry=True)
    cache = DiskCache(tmp_path, 64 * MIB)
    assert [cache.get(wanted) for wanted, _ in many] == [data for _, data in many]


def test_a_closed_cache_leaves_its_segments_to_others(tmp_path: Path) -> None:
    """A segment is locked as long as its descriptor lives, and no part of a closed cache may keep that."""
    cache = DiskCache(tmp_path, 64 * MIB)
    cache.put_many([(block(f"k{i}", 70_001), content(f"k{i}", 70_001)) for i in range(10)])
    cache.put_many([(block(f"m{i}", 70_001), content(f"m{i}", 70_001)) for i in range(10)])
    cache.close()
    segments = list(tmp_path.rglob("segment-*"))
    assert segments
    for path in segments:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
