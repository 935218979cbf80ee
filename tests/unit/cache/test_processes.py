"""Several processes on one cache, and processes that are killed at any moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from ossmount.cache import files
from ossmount.cache.disk import DiskCache
from ossmount.cache.disk_layout import segment_size
from ossmount.cache.files import File, SharedLock
from ossmount.cache.folder import Folder
from ossmount.cache.shares import Pending
from ossmount.errors import CacheError
from tests.unit.cache.blocks import MIB, block, content, disk_usage, put
from tests.unit.cache.worker import KEYS, size_of

ROOT = Path(__file__).parents[3]
CAPACITY = 9 * MIB
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def start_one(seed: int, rounds: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.unit.cache.worker", str(tmp_path), str(CAPACITY)]
        process = subprocess.Popen(
            [*command, str(seed), str(rounds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start_one
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def all_right(cache: DiskCache) -> int:
    """Asserts that every block is right or missing; returns how many are there."""
    found = 0
    for i in range(KEYS):
        key = f"k{i}"
        got = cache.get(block(key, size_of(key)))
        assert got is None or got == content(key, size_of(key))
        found += got is not None
    return found


def test_three_processes_write_and_read_at_once_within_the_cap(tmp_path: Path, start: Start) -> None:
    processes = [start(seed, 1500) for seed in range(3)]
    while any(p.poll() is None for p in processes):
        assert disk_usage(tmp_path) <= CAPACITY
    stored_by_all = 0
    for process in processes:
        assert process.stdout is not None
        wrong, hits, stored, failures, bad = map(int, process.stdout.read().split())
        assert (wrong, failures, bad) == (0, 0, 0)
        assert hits > 100
        stored_by_all += stored
    assert stored_by_all > 20
    assert all_right(DiskCache(tmp_path, CAPACITY)) > 20


def test_processes_killed_in_the_middle_of_writes_leave_a_right_cache(tmp_path: Path, start: Start) -> None:
    rng = random.Random(11)
    for turn in range(6):
        victims = [start(seed=turn * 2 + i, rounds=10**9) for i in range(2)]
        for _ in range(rng.randrange(1, 40)):
            assert disk_usage(tmp_path) <= CAPACITY
        for victim in victims:
            victim.kill()
            victim.wait()
        cache = DiskCache(tmp_path, CAPACITY)
        assert all_right(cache) > 5
        assert cache.statistics().failures == 0
        assert cache.statistics().bad_blocks == 0
        assert disk_usage(tmp_path) <= CAPACITY
        cache.close()


@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "unlink", "open"])
def test_death_at_any_single_write_call_leaves_a_right_cache(tmp_path: Path, call: str) -> None:
    """A child dies just before its n-th call of one kind, for many n: every order of events is met."""
    for nth in range(0, 120, 6):
        _die_at(nth, [call], partial(_work, tmp_path, nth))
        cache = DiskCache(tmp_path, CAPACITY)
        assert all_right(cache) >= 0
        assert cache.statistics().failures == 0
        assert cache.statistics().bad_blocks == 0
        put(cache, "new", 100)
        assert cache.get(block("new", 100)) == content("new", 100)
        cache.close()
        assert disk_usage(tmp_path) <= CAPACITY


def _die_at(nth: int, calls: Sequence[str], work: Callable[[], object]) -> None:
    """Has a child do ``work`` and end, without any clean-up, before its ``nth`` call of one of ``calls``."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    left = [nth]

    def counted(real: Callable[..., object], *args: object, **kwargs: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            os._exit(0)
        return real(*args, **kwargs)

    try:
        for name in calls:
            setattr(os, name, partial(counted, getattr(os, name)))
        work()
    finally:
        os._exit(0)


def _work(directory: Path, nth: int) -> None:
    """Writes, makes room, grows the table, shrinks."""
    cache = DiskCache(directory, CAPACITY)
    for i in range(60):
        key = f"k{(i * 17 + nth) % KEYS}"
        cache.put(block(key, size_of(key)), content(key, size_of(key)))
        cache.put(block(f"{nth}-{i}", 8), bytes(8))
    DiskCache(directory, 3 * MIB)  # shrinks: evicts


def test_a_segment_number_never_comes_back_whenever_an_evicting_process_dies(tmp_path: Path) -> None:
    """A process that verified a block reads its parts unverified: never from a later segment of that number.

    A child shrinks the cache, so evicts the segment, and puts a block; it dies before its n-th call.
    """

    def shrink() -> None:
        put(DiskCache(directory, 2 * MIB), "child", 9000)

    for nth in range(30):
        directory = tmp_path / str(nth)
        writer = DiskCache(directory, CAPACITY)
        made, data = put(writer, "old", 9000), content("old", 9000)
        writer.close()
        reader = DiskCache(directory, CAPACITY)
        assert reader.get_range(made, 5, 50) == data[5:55]
        _die_at(nth, ["pwrite", "pwritev", "ftruncate", "unlink", "open"], shrink)
        other = DiskCache(directory, CAPACITY)
        put(other, "new", 9000)
        for _ in range(3):
            assert reader.get_range(made, 5, 50) in (None, data[5:55])
        assert other.get(block("new", 9000)) == content("new", 9000)
        assert other.statistics().failures == other.statistics().bad_blocks == 0
    assert other.get(block("child", 9000)) is not None, "the last child came to the end of its work"


def test_nor_of_a_segment_that_had_too_little_room_left(tmp_path: Path) -> None:
    """Found full and evicted in one turn of the lock: what the state says must not lag behind the cut."""
    writer = DiskCache(tmp_path, 5 * MIB)
    made, data = put(writer, "old", 9000), content("old", 9000)
    writer.close()
    reader = DiskCache(tmp_path, 5 * MIB)
    assert reader.get_range(made, 5, 50) == data[5:55]
    whole = segment_size(5 * MIB)
    _die_at(0, ["unlink"], lambda: Folder(tmp_path, 5 * MIB).lease(Pending(), None, whole, -1))
    other = DiskCache(tmp_path, 5 * MIB)
    put(other, "new", 9000)
    for _ in range(3):
        assert reader.get_range(made, 5, 50) in (None, data[5:55])


def test_a_dead_process_leaves_its_segment_to_the_next(tmp_path: Path, start: Start) -> None:
    process = start(1, 10**9)
    process.kill()
    process.wait()
    cache = DiskCache(tmp_path, CAPACITY)
    before = len(list(tmp_path.rglob("segment-*")))
    put(cache, "mine", 100)
    assert len(list(tmp_path.rglob("segment-*"))) == max(1, before)


def test_a_fork_of_an_open_cache_does_not_write(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, CAPACITY)
    made = put(cache, "before", 100)
    child = os.fork()
    if child == 0:
        put(cache, "child", 100)
        os._exit(0 if cache.get(made) is not None else 1)
    assert os.waitpid(child, 0)[1] == 0
    put(cache, "after", 100)
    assert cache.get(block("child", 100)) is None
    assert cache.get(block("after", 100)) == content("after", 100)
    assert cache.statistics().bad_blocks == 0, "the child has written where its parent does"


def test_a_stopped_process_that_holds_the_lock_costs_a_put_not_a_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DiskCache(tmp_path, CAPACITY)
    made = put(cache, "a", 100)
    monkeypatch.setattr(files, "LOCK_PATIENCE", 0.0)
    cache._next_tell = 0.0
    other = SharedLock(File(os.open(tmp_path / "blocks-v1" / "lock", os.O_RDWR)))
    with other:
        put(cache, "b", 100)
        assert cache.get(made) == content("a", 100)
    assert cache.statistics().failures == 1
    assert cache.get(block("b", 100)) is None
    assert cache._pending.traffic == 300
    assert cache.get(made) == content("a", 100)
    assert cache._pending.traffic == 0


def test_a_writer_enters_blocks_into_the_table_that_another_has_grown(tmp_path: Path) -> None:
    """Grown after it looked whether the blocks are there, and before it enters them."""
    writer, other = DiskCache(tmp_path, CAPACITY), DiskCache(tmp_path, CAPACITY)
    found = writer._find(put(writer, "first", 100).digest())
    assert found is not None
    before = other._folder.table.buckets
    for i in range(1000):
        put(other, f"k{i}", 8)
    assert other._folder.table.buckets > before
    writer._folder.enter_many([(bytes(8) + b"entered!", found)])
    assert other._folder.table.find(bytes(8) + b"entered!") == found


def test_a_process_that_hears_of_a_grown_table_grows_that_one(tmp_path: Path) -> None:
    teller, other = DiskCache(tmp_path, CAPACITY), DiskCache(tmp_path, CAPACITY)
    made = [put(other, f"k{i}", 8) for i in range(1000)]
    teller._folder.tell(Pending(), 0.0)
    assert teller._folder.table.buckets == other._folder.table.buckets == teller._folder.state.buckets
    found = sum(teller.get(each) is not None for each in made)
    assert found > 900


def test_a_writer_whose_segment_was_removed_goes_on_in_another(tmp_path: Path) -> None:
    """As by someone who empties the directory under a running mount."""
    cache = DiskCache(tmp_path, CAPACITY)
    put(cache, "lost", 100)
    next(tmp_path.rglob("segment-*")).unlink()
    DiskCache(tmp_path, CAPACITY).close()
    cache._tell(0.0)
    made = put(cache, "new", 100)
    assert cache.get(made) == content("new", 100)
    assert DiskCache(tmp_path, CAPACITY).get(made) == content("new", 100)


def test_opening_waits_for_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DiskCache(tmp_path, CAPACITY).close()
    monkeypatch.setattr(files, "LOCK_PATIENCE", 0.0)
    with SharedLock(File(os.open(tmp_path / "blocks-v1" / "lock", os.O_RDWR))), pytest.raises(CacheError):
        DiskCache(tmp_path, CAPACITY)
