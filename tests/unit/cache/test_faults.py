"""Damage and failing disks: a miss, a counter and a line in the log, never an error or wrong bytes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossmount.cache import disk
from ossmount.cache.disk import DiskCache
from ossmount.cache.layered import open_cache
from ossmount.cache.memory import MemoryCache
from ossmount.cache.table import Table
from ossmount.config import CacheSettings
from ossmount.errors import CacheError
from tests.unit.cache.blocks import MIB, block, content, disk_usage, put

CAPACITY = 16 * MIB
KEYS = [f"k{i}" for i in range(60)]


def filled(directory: Path) -> DiskCache:
    cache = DiskCache(directory, CAPACITY)
    for key in KEYS:
        put(cache, key, 9000)
    return cache


def right_or_missing(cache: DiskCache) -> int:
    found = 0
    for key in KEYS:
        got = cache.get(block(key, 9000))
        assert got is None or got == content(key, 9000)
        part = cache.get_range(block(key, 9000), 17, 100)
        assert part is None or part == content(key, 9000)[17:117]
        found += got is not None
    return found


def one(directory: Path, pattern: str) -> Path:
    return next((directory / "blocks-v1").glob(pattern))


REGIONS = ["segment-*", "table-*", "state", "declined", "lock"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    region=st.sampled_from(REGIONS),
    where=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=3000),
    reopen=st.booleans(),
)
def test_junk_anywhere_is_a_miss(
    tmp_path: Path, region: str, where: float, junk: bytes, reopen: bool
) -> None:
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    cache = filled(tmp_path / "c")
    path = one(tmp_path / "c", region)
    with path.open("r+b") as file:
        file.seek(int(where * path.stat().st_size))
        file.write(junk)
    if reopen:
        cache.close()
        cache = DiskCache(tmp_path / "c", CAPACITY)
    right_or_missing(cache)
    cache.put(block("new", 5), b"fresh")
    assert cache.get(block("new", 5)) == b"fresh"
    assert disk_usage(tmp_path / "c") <= CAPACITY


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("size", [0, 1, 100])
@pytest.mark.parametrize("reopen", [False, True])
def test_a_cut_file_is_a_miss(tmp_path: Path, region: str, size: int, reopen: bool) -> None:
    cache = filled(tmp_path)
    os.truncate(one(tmp_path, region), size)
    if reopen:
        cache.close()
        cache = DiskCache(tmp_path, CAPACITY)
    right_or_missing(cache)
    cache.put(block("new", 5), b"fresh")
    assert cache.get(block("new", 5)) == b"fresh"


@pytest.mark.parametrize("region", REGIONS)
def test_a_lost_file_is_a_miss(tmp_path: Path, region: str) -> None:
    filled(tmp_path).close()
    one(tmp_path, region).unlink()
    cache = DiskCache(tmp_path, CAPACITY)
    found = right_or_missing(cache)
    assert (found == len(KEYS)) == (region in {"state", "declined", "lock"})
    cache.put(block("new", 5), b"fresh")
    assert cache.get(block("new", 5)) == b"fresh"


def test_a_damaged_block_is_counted_forgotten_and_put_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = filled(tmp_path)
    with one(tmp_path, "segment-*").open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    assert cache.get(block(KEYS[0], 9000)) is None
    assert cache.statistics().bad_blocks == 1
    assert "wrong checksum" in caplog.text
    put(cache, KEYS[0], 9000)
    assert cache.get(block(KEYS[0], 9000)) == content(KEYS[0], 9000)


def test_a_slot_that_points_to_another_block_is_a_miss(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    mine, other = block(KEYS[0], 9000).digest(), cache._find(block(KEYS[1], 9000).digest())
    assert other is not None
    cache._folder.enter_many([(mine, other)])
    assert cache.get(block(KEYS[0], 9000)) is None
    assert cache.get_range(block(KEYS[0], 9000), 0, 10) is None


def test_failures_are_logged_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = filled(tmp_path)
    with one(tmp_path, "segment-*").open("r+b") as file:
        file.write(os.urandom(9000 * len(KEYS)))
    with caplog.at_level(logging.WARNING):
        assert right_or_missing(cache) == 0
    assert cache.statistics().bad_blocks == len(KEYS)
    assert len(caplog.records) == 1


def test_the_directory_is_made_private(tmp_path: Path) -> None:
    DiskCache(tmp_path / "a" / "b", CAPACITY).close()
    assert (tmp_path / "a" / "b" / "blocks-v1").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_anyone_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blocks-v1").mkdir()
    (tmp_path / "blocks-v1").chmod(0o777)
    with pytest.raises(CacheError, match="writable by everybody; run: chmod 0700"):
        DiskCache(tmp_path, CAPACITY)


def test_a_path_that_is_no_directory_is_refused_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"cache directory .*file cannot be used: Not a directory"):
        DiskCache(tmp_path / "file", CAPACITY)
    cache = open_cache(CacheSettings(cache_size=CAPACITY), tmp_path / "file")
    assert isinstance(cache, MemoryCache)
    assert "going on without the disk cache" in caplog.text


def test_another_version_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "blocks-v2"
    other.mkdir()
    (other / "state").write_bytes(b"of the future")
    filled(tmp_path).close()
    assert (other / "state").read_bytes() == b"of the future"


def test_a_vanished_directory_is_made_anew_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(tmp_path / "c")
    shutil.rmtree(tmp_path / "c")
    monkeypatch.setattr(disk, "RETRY_SECONDS", 0.0)
    for i in range(100):
        put(cache, f"new{i}", 200_000)
    assert right_or_missing(cache) >= 0
    assert cache.statistics().failures == 1
    made = put(cache, "last", 100)
    assert cache.get(made) == content("last", 100)
    assert DiskCache(tmp_path / "c", CAPACITY).get(made) == content("last", 100)


def test_a_directory_made_anew_that_anyone_can_write_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(tmp_path)
    shutil.rmtree(tmp_path / "blocks-v1")
    (tmp_path / "blocks-v1").mkdir()
    (tmp_path / "blocks-v1").chmod(0o777)
    monkeypatch.setattr(disk, "RETRY_SECONDS", 0.0)
    put(cache, "large", 4 * MIB)  # does not fit the segment: here the loss shows
    cache.put(block("new", 5), b"fresh")
    assert cache.get(block("new", 5)) is None
    assert list((tmp_path / "blocks-v1").iterdir()) == []
    assert cache.statistics().failures == 2


def test_a_table_that_cannot_grow_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path, CAPACITY)
    before = cache._folder.table.buckets

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Table, "double_into", fails)
        for i in range(1000):
            put(cache, f"k{i}", 8)
    assert cache._folder.table.buckets == before
    assert len(list(tmp_path.rglob("table-*"))) == 1
    assert sum(cache.get(block(f"k{i}", 8)) is not None for i in range(1000)) > 300
    assert cache.statistics().failures == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EACCES, errno.ENOTDIR])
def test_a_disk_that_tells_nothing_is_done_without_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    cache = filled(tmp_path / "c")
    monkeypatch.setattr(disk, "RETRY_SECONDS", 0.0)

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as dead:
        for owner, name in ((Path, "stat"), (Path, "mkdir"), (os, "pwrite"), (os, "pwritev")):
            dead.setattr(owner, name, fails)
        for i in range(3):
            put(cache, f"lost{i}", 100)
    assert cache.statistics().failures == 3
    made = put(cache, "new", 100)
    assert cache.get(made) == content("new", 100)
    assert right_or_missing(cache) == len(KEYS)


def test_a_disk_that_does_not_unlock_is_a_failure_not_a_lock_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, flock = filled(tmp_path), fcntl.flock
    monkeypatch.setattr(disk, "RETRY_SECONDS", 0.0)

    def fails_to_unlock(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            raise OSError(errno.EIO, "Input/output error")
        flock(fd, operation)

    with monkeypatch.context() as dead:
        dead.setattr(fcntl, "flock", fails_to_unlock)
        put(cache, "lost", 100)
    assert cache.statistics().failures == 1
    made = put(cache, "new", 100)
    assert cache.get(made) == content("new", 100)
    assert cache.statistics().failures == 1


def test_a_directory_made_by_another_after_vanishing_is_not_mixed_up(tmp_path: Path) -> None:
    old = filled(tmp_path / "c")
    shutil.rmtree(tmp_path / "c")
    new = DiskCache(tmp_path / "c", CAPACITY)
    for i in range(100):
        put(old, f"old{i}", 200_000)
        put(new, f"new{i}", 200_000)
    for i in range(100):
        got = new.get(block(f"new{i}", 200_000))
        assert got is None or got == content(f"new{i}", 200_000)
        assert new.get(block(f"old{i}", 200_000)) is None
    assert new.statistics().failures == 0


def test_a_lost_state_never_brings_a_segment_number_back(tmp_path: Path) -> None:
    """A process that verified a block must not read its part from a later segment of the same number."""
    writer = DiskCache(tmp_path, CAPACITY)
    made = put(writer, "a", 9000)
    writer.close()
    reader = DiskCache(tmp_path, CAPACITY)
    assert reader.get_range(made, 5, 50) == content("a", 9000)[5:55]
    DiskCache(tmp_path, 2 * MIB).close()
    one(tmp_path, "state").write_bytes(b"junk")
    other = DiskCache(tmp_path, CAPACITY)
    put(other, "b", 9000)
    for _ in range(3):
        assert reader.get_range(made, 5, 50) is None
        assert reader.get(block("b", 9000)) in (None, content("b", 9000))
    assert other.get(block("b", 9000)) == content("b", 9000)


def test_nor_where_other_segments_stay_and_their_table_with_them(tmp_path: Path) -> None:
    staying, writer = DiskCache(tmp_path, CAPACITY), DiskCache(tmp_path, CAPACITY)
    put(staying, "stays", 9000)
    made = put(writer, "a", 9000)
    staying.close()
    writer.close()
    reader = DiskCache(tmp_path, CAPACITY)
    assert reader.get_range(made, 5, 50) == content("a", 9000)[5:55]
    newest = max((tmp_path / "blocks-v1").glob("segment-*"))  # as evicted, by one that died after it
    os.truncate(newest, 0)
    newest.unlink()
    one(tmp_path, "state").write_bytes(b"junk")
    other = DiskCache(tmp_path, CAPACITY)
    put(other, "b", 9000)
    for _ in range(3):
        assert reader.get_range(made, 5, 50) is None
    assert other.get(block("stays", 9000)) == content("stays", 9000)


@pytest.mark.parametrize("name", ["state", "lock"])
def test_a_file_lost_under_an_open_cache_never_mixes_blocks(tmp_path: Path, name: str) -> None:
    old = filled(tmp_path)
    one(tmp_path, name).unlink()
    new = DiskCache(tmp_path, CAPACITY)
    for i in range(120):
        put(old, f"old{i}", 100_000)
        put(new, f"new{i}", 100_000)
    for cache in (old, new):
        right_or_missing(cache)
        for key in (f"{age}{i}" for i in range(120) for age in ("old", "new")):
            got = cache.get(block(key, 100_000))
            assert got is None or got == content(key, 100_000)
        assert cache.statistics().bad_blocks == 0


def test_a_foreign_file_of_absurd_size_is_removed(tmp_path: Path) -> None:
    filled(tmp_path).close()
    foreign = tmp_path / "blocks-v1" / "segment-000000ff"
    foreign.touch()
    os.truncate(foreign, 5 << 30)
    assert right_or_missing(DiskCache(tmp_path, CAPACITY)) == len(KEYS)
    assert not foreign.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 6 MiB: a disk that fills up, and a cache on tmpfs."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    target = tmp_path / "small"
    target.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", str(target)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not allowed here: {made.stderr.strip()}")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=True)


def test_a_full_disk_declines_and_reads_go_on(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk, "RETRY_SECONDS", 0.0)
    cache = DiskCache(small_disk, 64 * MIB)
    made = [put(cache, f"k{i}", 100_000) for i in range(100)]
    found = [cache.get(b) for b in made]
    assert 40 < sum(data is not None for data in found) < 65
    assert all(d in (None, content(f"k{i}", 100_000)) for i, d in enumerate(found))
    assert cache.statistics().failures > 0
    assert len([r for r in caplog.records if "No space left" in r.message]) == 1
    cache.close()
    again = DiskCache(small_disk, 64 * MIB)
    assert sum(again.get(b) is not None for b in made) > 40


def test_a_disk_that_is_full_from_the_start_is_refused_in_one_line(small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass
    assert shutil.disk_usage(small_disk).free == 0
    with pytest.raises(CacheError, match="No space left on device; give another one with --cache-dir"):
        DiskCache(small_disk / "c", CAPACITY)


def test_a_read_only_disk_serves_what_it_has(small_disk: Path) -> None:
    filled_cache = DiskCache(small_disk, 5 * MIB)
    for key in KEYS:
        put(filled_cache, key, 9000)
    filled_cache.close()
    del filled_cache
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    cache = DiskCache(small_disk, 5 * MIB)
    assert right_or_missing(cache) == len(KEYS)
    put(cache, "new", 5)
    assert cache.statistics().declined == 1
    assert cache.statistics().failures == 0
    cache.close()


def test_a_read_only_disk_without_a_cache_is_refused(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(CacheError, match="Read-only file system"):
        DiskCache(small_disk, 5 * MIB)
