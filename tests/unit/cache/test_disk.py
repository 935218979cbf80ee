"""One process: what goes in comes out or is a miss, restart, cap, policy, parts."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ossmount.cache.disk import DiskCache
from ossmount.cache.layered import LayeredCache, check_cache, open_cache
from ossmount.cache.memory import MemoryCache, NullCache
from ossmount.cache.segments import OpenSegments
from ossmount.config import CacheSettings
from ossmount.errors import CacheError
from ossmount.protocols import PartialBlockCache
from tests.unit.cache.blocks import MIB, block, content, disk_usage, put


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    cache: PartialBlockCache = DiskCache(tmp_path, 64 * MIB)
    sizes = {"empty": 0, "one": 1, "odd": 4095, "small": 70_001, "block": MIB, "largest": 4 * MIB}
    for key, size in sizes.items():
        cache.put(block(key, size), content(key, size))
    for key, size in sizes.items():
        assert cache.get(block(key, size)) == content(key, size)
        assert cache.contains(block(key, size))


def test_many_at_once_are_as_one_by_one(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 64 * MIB)
    sizes = {f"k{i}": 300_000 + i for i in range(40)} | {"none": 0}  # more than a segment of 8 MiB
    many = [(block(key, size), content(key, size)) for key, size in sizes.items()]
    refused = [(block("tagless", 3, etag=""), b"abc"), (block("short", 3), b"ab")]
    cache.put_many([*many[:20], *refused, many[3]])
    cache.put_many(many)
    cache.put_many([])
    for wanted, data in many:
        assert cache.get(wanted) == data
    counts = cache.statistics()
    assert (counts.stored, counts.stored_bytes) == (len(many), sum(sizes.values()))
    assert counts.bytes >= sum(sizes.values())


def test_tiny_blocks_at_once_are_more_than_one_write_takes(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1024 * MIB)
    put(cache, "first", 1)
    many = [(block(f"k{i}", 4), f"{i:04}".encode()) for i in range(2500)]
    cache.put_many(many)
    assert [cache.get(each) for each, _ in many] == [data for _, data in many]
    assert cache.statistics().failures == 0


def test_identity_is_store_key_etag_offset_and_length(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 16 * MIB)
    cache.put(block("a", 100), content("a", 100))
    assert cache.get(block("a", 100, etag="e2")) is None
    assert cache.get(block("a", 99)) is None
    assert cache.get(block("a", 100, offset=1)) is None
    assert cache.get(block("b", 100)) is None


def test_declines_without_an_etag_of_wrong_length_and_too_large(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 16 * MIB)
    cache.put(block("a", 3, etag=""), b"abc")
    cache.put(block("b", 3), b"ab")
    cache.put(block("c", 5 * MIB), bytes(5 * MIB))
    assert cache.statistics().declined == 3
    assert cache.statistics().stored == 0


def test_a_restart_finds_everything_and_goes_on_in_the_same_segment(tmp_path: Path) -> None:
    for turn in range(10):
        cache = DiskCache(tmp_path, 16 * MIB)
        put(cache, f"k{turn}", 1000)
        for earlier in range(turn + 1):
            assert cache.get(block(f"k{earlier}", 1000)) == content(f"k{earlier}", 1000)
        cache.close()
    assert len(list(tmp_path.rglob("segment-*"))) == 1


def test_parts_of_a_block(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 16 * MIB)
    made, data = put(cache, "a", MIB), content("a", MIB)
    for start, length in ((0, 10), (131_072, 131_072), (MIB - 5, 100), (MIB, 4), (0, MIB)):
        assert cache.get_range(made, start, length) == data[start : start + length]
    assert cache.get_range(made, -1, 5) is None
    assert cache.get_range(block("b", 10), 0, 5) is None


def test_after_close_everything_misses(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 16 * MIB)
    made = put(cache, "a", 10)
    cache.close()
    cache.close()
    put(cache, "b", 10)
    assert cache.get(made) is None
    assert not cache.contains(made)


def test_small_blocks_grow_the_table_and_stay(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 64 * MIB)
    before = cache._folder.table.buckets
    for i in range(6000):
        cache.put(block(f"k{i}", 64), f"{i:064}".encode())
    found = sum(cache.get(block(f"k{i}", 64)) == f"{i:064}".encode() for i in range(6000))
    assert cache._folder.table.buckets > before
    assert found > 5900
    assert len(list(tmp_path.rglob("table-*"))) == 1


def test_a_reader_follows_a_table_that_another_grew(tmp_path: Path) -> None:
    reader, writer = DiskCache(tmp_path, 64 * MIB), DiskCache(tmp_path, 64 * MIB)
    for i in range(3000):
        writer.put(block(f"k{i}", 64), f"{i:064}".encode())
    assert writer._folder.table.buckets > reader._folder.table.buckets
    assert sum(reader.get(block(f"k{i}", 64)) is not None for i in range(3000)) > 2900
    reader.put(block("mine", 4), b"mine")
    assert writer.get(block("mine", 4)) == b"mine"


@pytest.mark.parametrize("capacity", [2 * MIB, 5 * MIB, 40 * MIB])
def test_the_cap_holds_after_every_put(tmp_path: Path, capacity: int) -> None:
    rng = random.Random(capacity)
    cache = DiskCache(tmp_path, capacity)
    for i in range(150):
        put(cache, f"k{i}", rng.choice([100, 70_000, 300_000, MIB]))
        assert disk_usage(tmp_path) <= capacity
    assert cache.statistics().bytes <= capacity
    assert cache.statistics().stored_bytes > capacity // 4


def test_a_lower_capacity_takes_effect_on_opening(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 64 * MIB)
    for i in range(40):
        put(cache, f"k{i}", MIB)
    cache.close()
    smaller = DiskCache(tmp_path, 16 * MIB)
    assert disk_usage(tmp_path) <= 16 * MIB
    assert any(smaller.get(block(f"k{i}", MIB)) is not None for i in range(40))


def test_a_capacity_below_the_table_of_a_large_cache_begins_anew(tmp_path: Path) -> None:
    large = DiskCache(tmp_path, 64 << 30)
    put(large, "old", MIB)
    large.close()
    other = DiskCache(tmp_path, 64 << 30)
    tiny = DiskCache(tmp_path, 16 * MIB)
    for i in range(4):
        made = put(tiny, f"k{i}", MIB)
        assert tiny.get(made) == content(f"k{i}", MIB)
    assert tiny.get(block("old", MIB)) is None
    assert other.get(block("k3", MIB)) == content("k3", MIB)
    assert disk_usage(tmp_path) <= 16 * MIB
    assert len(list(tmp_path.rglob("table-*"))) == 1


def test_the_cap_holds_for_a_process_that_opened_with_a_larger_one(tmp_path: Path) -> None:
    larger = DiskCache(tmp_path, 64 << 30)
    DiskCache(tmp_path, 8 * MIB)
    assert larger.get(put(larger, "larger than a segment", 5 * MIB)) is None
    for i in range(3000):
        larger.put(block(f"k{i}", 4096), bytes(4096))
    assert disk_usage(tmp_path) <= 8 * MIB
    assert larger.statistics().declined > 1000


def test_epochs_over_twice_the_cache_hit_half_and_a_new_data_set_wins(tmp_path: Path) -> None:
    rng = random.Random(7)
    cache = DiskCache(tmp_path, 48 * MIB)
    size, data = 64 << 10, bytes(64 << 10)

    def epoch(prefix: str, count: int) -> float:
        hits = 0
        for i in rng.sample(range(count), count):
            made = block(f"{prefix}{i}", size)
            hit = cache.get(made) is not None
            hits += hit
            if not hit:
                cache.put(made, data)
        return hits / count

    first = [epoch("a", 1536) for _ in range(4)]
    assert first[0] == 0
    assert min(first[1:]) > 0.42
    second = [epoch("b", 700) for _ in range(6)]
    assert second[-1] > 0.8
    assert cache.statistics().evictions > 0
    assert len(list(tmp_path.rglob("segment-*"))) == len(cache._folder.live)
    assert disk_usage(tmp_path) <= 48 * MIB


def test_processes_with_halves_of_an_epoch_keep_what_fits_together(tmp_path: Path) -> None:
    rng = random.Random(8)
    caches = [DiskCache(tmp_path, 40 * MIB) for _ in range(2)]
    size, data, count = 64 << 10, bytes(64 << 10), 1280
    ratios = []
    for _ in range(4):
        hits = 0
        for i in rng.sample(range(count), count):
            cache, made = caches[rng.randrange(2)], block(f"k{i}", size)
            hit = cache.get(made) is not None
            hits += hit
            if not hit:
                cache.put(made, data)
        ratios.append(hits / count)
    assert min(ratios[1:]) > 0.38


def test_a_segment_that_an_idle_process_keeps_does_not_freeze_the_others(tmp_path: Path) -> None:
    capacity, size = 20 * MIB, 128 << 10
    idle, busy = DiskCache(tmp_path, capacity), DiskCache(tmp_path, capacity)
    put(idle, "one", 100)
    residents = [put(busy, f"r{i}", MIB) for i in range(12)]
    while busy._folder.state.clock < 9 * capacity:
        assert all(busy.get(made) is not None for made in residents)
    hits = 0
    for _ in range(8):
        for made in (block(f"k{i}", size) for i in range(96)):
            if not busy.contains(made):
                busy.put(made, bytes(size))
            hits += busy.get(made) is not None
    assert hits > 96
    assert idle.get(block("one", 100)) == content("one", 100)


def test_threads_share_one_cache(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 8 * MIB)
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(400):
            key = f"k{rng.randrange(300)}"
            got = cache.get(block(key, 30_000))
            if got is not None and got != content(key, 30_000):
                wrong.append(key)
            put(cache, key, 30_000)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.statistics().bad_blocks == 0
    assert cache.statistics().failures == 0


def some_segments(directory: Path) -> tuple[OpenSegments, list[int]]:
    """None of them open, and their numbers."""
    cache = DiskCache(directory, 40 * MIB)
    for i in range(30):
        put(cache, f"k{i}", MIB)
    return OpenSegments(cache._folder), sorted(cache._folder.live)


def test_segments_are_opened_and_closed_while_others_are_looked_through(tmp_path: Path) -> None:
    """What another thread does in between happens here at the look at each number."""
    segments, (first, *numbers) = some_segments(tmp_path)
    assert all(segments.find(number) for number in numbers)

    class Living(list[int]):
        def __contains__(self, number: object) -> bool:
            segments.forget(first)
            assert segments.find(first) is not None
            return number == numbers[0]

    segments.retain(Living())
    assert set(segments._files) == {first, numbers[0]}


def test_of_too_many_open_segments_the_oldest_is_closed(tmp_path: Path) -> None:
    segments, (first, *numbers) = some_segments(tmp_path)
    segments._most = len(numbers)
    assert all(segments.find(number) for number in (first, *numbers))
    assert list(segments._files) == numbers


class AgainstADictionary(RuleBasedStateMachine):
    """Any read gives the right bytes or nothing, whatever is put, restarted or resized around it."""

    keys = st.integers(0, 30)
    sizes = st.sampled_from([0, 1, 5000, 200_000, 900_000])

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.capacity = 6 * MIB
        self.caches = [DiskCache(self.path, self.capacity) for _ in range(2)]

    @rule(key=keys, size=sizes, which=st.integers(0, 1))
    def put(self, key: int, size: int, which: int) -> None:
        put(self.caches[which], f"k{key}", size)

    @rule(key=keys, size=sizes, which=st.integers(0, 1))
    def get(self, key: int, size: int, which: int) -> None:
        got = self.caches[which].get(block(f"k{key}", size))
        assert got is None or got == content(f"k{key}", size)

    @rule(key=keys, size=sizes, start=st.integers(0, 6000), length=st.integers(0, 6000))
    def get_range(self, key: int, size: int, start: int, length: int) -> None:
        if start <= size:
            got = self.caches[0].get_range(block(f"k{key}", size), start, length)
            assert got is None or got == content(f"k{key}", size)[start : start + length]

    @rule(which=st.integers(0, 1), capacity=st.sampled_from([4 * MIB, 6 * MIB, 9 * MIB]))
    def restart(self, which: int, capacity: int) -> None:
        self.caches[which].close()
        self.capacity = capacity
        self.caches[which] = DiskCache(self.path, capacity)

    @invariant()
    def no_failure(self) -> None:
        for cache in self.caches:
            assert cache.statistics().failures == 0
            assert cache.statistics().bad_blocks == 0

    def teardown(self) -> None:
        for cache in self.caches:
            cache.close()
        self.folder.cleanup()


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


def test_layers_promote_and_write_to_both(tmp_path: Path) -> None:
    cache = open_cache(CacheSettings(cache_size=16 * MIB, memory_cache=MIB), tmp_path)
    assert isinstance(cache, LayeredCache)
    made = block("a", 1000)
    cache.put(made, content("a", 1000))
    assert cache.memory.contains(made)
    assert cache.disk.contains(made)
    cache.memory.close()
    assert cache.get(made) == content("a", 1000)
    assert cache.memory.contains(made)
    assert cache.get_range(made, 10, 5) == content("a", 1000)[10:15]
    assert cache.get(block("b", 5)) is None
    assert cache.statistics().hits == 2
    assert cache.statistics().misses == 1
    cache.close()


def test_settings_choose_the_layers(tmp_path: Path) -> None:
    def kind(disk: int, memory: int) -> type:
        return type(open_cache(CacheSettings(cache_size=disk, memory_cache=memory), tmp_path))

    assert kind(0, 0) is NullCache
    assert kind(0, MIB) is MemoryCache
    assert kind(16 * MIB, 0) is DiskCache
    assert kind(1000, MIB) is MemoryCache


def test_a_size_below_one_block_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="cannot hold one block; give --cache-size at least 2M"):
        check_cache(CacheSettings(cache_size=1 * MIB), tmp_path)
    check_cache(CacheSettings(cache_size=0), tmp_path)
    check_cache(CacheSettings(cache_size=2 * MIB), tmp_path)
