"""The policy by simulation: segments of blocks, epochs, shifts and scans. No files."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest

from ossmount.cache.policy import Admission

BLOCK = 100


class SimulatedCache:
    """What the disk cache does with the policy, in dictionaries. One unit of traffic per byte."""

    def __init__(self, blocks: int, per_segment: int) -> None:
        self.capacity = blocks * BLOCK
        self.per_segment = per_segment
        self.admission = Admission(self.capacity, per_segment * BLOCK)
        self.limit = blocks // per_segment
        self.where: dict[str, int] = {}
        self.segments: dict[int, list[str]] = {0: []}
        self.stamp = {0: 0}
        self.open = 0
        self.now = 0
        self.offered: dict[str, int] = {}

    def read(self, block: str) -> bool:
        self.now += BLOCK
        if block in self.where:
            self.stamp[self.where[block]] = self.now
            return True
        self._offer(block)
        return False

    def _offer(self, block: str) -> None:
        last = self.offered.get(block)
        if len(self.segments[self.open]) == self.per_segment and not self._room(last):
            if last is None or not self.admission.repeats(self.now - last):
                self.offered[block] = self.now
            return
        self.segments[self.open].append(block)
        self.where[block] = self.open

    def _room(self, last: int | None) -> bool:
        if len(self.segments) >= self.limit:
            victim = min(self.segments, key=lambda s: self.stamp[s])
            idle = self.now - self.stamp[victim]
            distance = None if last is None else self.now - last
            if self.admission.required_idle(BLOCK, distance, idle) is None:
                return False
            for block in self.segments.pop(victim):
                del self.where[block]
        self.open = max(self.stamp) + 1
        self.segments[self.open] = []
        self.stamp[self.open] = self.now
        return True


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def hit_ratio(cache: SimulatedCache, reads: Iterable[str]) -> float:
    results = [cache.read(block) for block in reads]
    return sum(results) / len(results)


def epoch(cache: SimulatedCache, files: Sequence[str], rng: random.Random) -> float:
    return hit_ratio(cache, rng.sample(files, len(files)))


@pytest.mark.parametrize("per_segment", [4, 16, 100])
@pytest.mark.parametrize("times", [2, 5])
def test_shuffled_epochs_over_a_larger_data_set_hit_what_fits(per_segment: int, times: int) -> None:
    cache, rng = SimulatedCache(1600, per_segment), random.Random(1)
    files = names("a", 1600 * times)
    ratios = [epoch(cache, files, rng) for _ in range(8)]
    assert ratios[0] == 0
    assert min(ratios[1:]) > 0.85 / times


@pytest.mark.parametrize("times", [2, 4])
def test_sequential_loop_keeps_what_fits(times: int) -> None:
    cache = SimulatedCache(1600, 16)
    files = names("a", 1600 * times)
    ratios = [hit_ratio(cache, files) for _ in range(6)]
    assert min(ratios[1:]) > 0.95 / times


@pytest.mark.parametrize("size", [400, 800, 1600, 3200])
def test_another_data_set_wins_within_a_few_epochs(size: int) -> None:
    cache, rng = SimulatedCache(1600, 16), random.Random(2)
    first = names("a", 3200)
    for _ in range(4):
        epoch(cache, first, rng)
    second = names("b", size)
    ratios = [epoch(cache, second, rng) for _ in range(6)]
    assert max(ratios[:5]) > 0.8 * min(1.0, 1600 / size)


def test_a_hot_set_survives_an_endless_scan() -> None:
    cache, rng = SimulatedCache(1600, 16), random.Random(3)
    hot = names("hot", 1000)
    epoch(cache, hot, rng)
    scan = iter(range(10**9))
    for _ in range(20):
        mixed = hot + [f"scan{next(scan)}" for _ in range(4000)]
        rng.shuffle(mixed)
        hits = sum(cache.read(block) for block in mixed)
        assert hits >= 0.97 * len(hot)


def test_a_scan_that_came_first_gives_way_to_a_hot_set() -> None:
    cache, rng = SimulatedCache(1600, 16), random.Random(4)
    hit_ratio(cache, names("scan", 20_000))
    hot = names("hot", 1000)
    ratios = [epoch(cache, hot, rng) for _ in range(5)]
    assert ratios[-1] > 0.95


def test_without_any_memory_of_declined_blocks_a_shift_still_wins() -> None:
    cache, rng = SimulatedCache(400, 16), random.Random(5)
    for _ in range(3):
        epoch(cache, names("a", 800), rng)
    ratios = []
    for _ in range(12):
        cache.offered.clear()
        ratios.append(epoch(cache, names("b", 800), rng))
    assert max(ratios) > 0.4
