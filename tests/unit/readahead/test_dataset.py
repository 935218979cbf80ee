from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.config import ReadaheadSettings
from ossmount.model import FileRef
from ossmount.readahead.dataset import FILES_PER_READ, FIRST_WINDOW, DatasetPlanner
from tests.support.memory_index import MemoryIndex

CLASSES, PER_CLASS = 20, 50
SIZES = {f"train/c{c:02}/{i:03}.jpg": 1000 for c in range(CLASSES) for i in range(PER_CLASS)} | {
    f"val/{i:03}.jpg": 1000 for i in range(200)
}
INDEX = MemoryIndex.of_sizes(SIZES)


def inos_below(path: bytes) -> list[int]:
    return [ref.ino for chunk in INDEX.files(INDEX.ino(path)) for ref in chunk]


TRAIN, VAL = inos_below(b"train"), inos_below(b"val")


class Program:
    """Opens files, and reads those that were not delivered before; keeps all that was planned."""

    def __init__(self, planner: DatasetPlanner, room: int = 10_000) -> None:
        self.planner, self.room = planner, room
        self.delivered: set[int] = set()
        self.planned: list[int] = []
        self.misses = 0

    def open(self, inos: Iterable[int]) -> None:
        for ino in inos:
            self.planner.opened(ino)
            if ino not in self.delivered:
                self.misses += 1
                self.planner.read(ino)
                self.delivered.add(ino)
            refs = self.planner.take(self.room)
            self.planned += [ref.ino for ref in refs]
            self.delivered.update(ref.ino for ref in refs)

    def evict(self) -> None:
        self.delivered.clear()


def planner(
    readahead: str = "auto", budget: int = 1 << 30, share: tuple[int, int] = (0, 1)
) -> DatasetPlanner:
    return DatasetPlanner(INDEX, ReadaheadSettings(readahead=readahead), budget=budget, share=share)


def shuffled(inos: list[int], seed: int = 1) -> list[int]:
    return random.Random(seed).sample(inos, len(inos))


def test_ten_reads_plan_little() -> None:
    for order in (shuffled(TRAIN), TRAIN):
        program = Program(planner())
        program.planner.listed(INDEX.ino(b"train"))
        program.open(order[:10])
        assert len(program.planned) <= 60


def test_listing_everything_plans_nothing() -> None:
    subject = planner()
    for ino in INDEX.paths:
        subject.listed(ino)
    assert subject.take(1000) == []


def test_a_shuffled_epoch_soon_has_all_of_its_subtree_planned_and_nothing_else() -> None:
    program, order = Program(planner()), shuffled(TRAIN)
    program.open(order[:60])
    assert program.delivered == set(TRAIN)
    program.open(order[60:])
    assert program.misses < 60
    assert set(program.planned).isdisjoint(VAL)


def test_a_scan_plans_what_comes_next_and_goes_on_into_the_next_directory() -> None:
    program = Program(planner())
    program.open(TRAIN[200:215])
    assert program.planned == TRAIN[203 : 203 + len(program.planned)]
    program.open(TRAIN[215:300])
    assert max(program.planned) > TRAIN[300]
    assert program.misses <= 12


def test_a_scan_goes_on_where_a_file_elsewhere_is_opened_amid_it() -> None:
    undisturbed, disturbed = Program(planner()), Program(planner())
    undisturbed.open(TRAIN[:120])
    disturbed.open([*TRAIN[:40], VAL[3], *TRAIN[40:120]])
    assert disturbed.misses == undisturbed.misses + 1


def test_interleaved_batches_of_eight_loaders_are_foreseen() -> None:
    order = [TRAIN[batch * 256 + w * 32 + i] for batch in range(3) for i in range(32) for w in range(8)]
    program = Program(planner())
    program.open(order)
    assert program.misses < 100


def test_another_subtree_moves_the_scope() -> None:
    program = Program(planner())
    program.open(shuffled(TRAIN))
    program.open(shuffled(VAL)[:60])
    assert program.delivered >= set(VAL)


def test_two_subtrees_in_use_are_one_scope() -> None:
    program = Program(planner())
    program.open(ino for pair in zip(shuffled(TRAIN)[:100], shuffled(VAL)[:100], strict=True) for ino in pair)
    assert program.delivered == {*TRAIN, *VAL}


def test_the_second_epoch_is_silent_while_everything_is_delivered() -> None:
    program = Program(planner())
    program.open(shuffled(TRAIN))
    planned = len(program.planned)
    for epoch in range(2, 5):
        program.open(shuffled(TRAIN, epoch))
    assert len(program.planned) == planned


def test_evicted_files_among_many_opened_again_do_not_start_an_epoch() -> None:
    program = Program(planner())
    program.open(shuffled(TRAIN))
    planned = len(program.planned)
    for ino in TRAIN[:40]:
        program.delivered.discard(ino)
        program.planner.reopened(32)
        program.open([ino])
    assert len(program.planned) == planned
    program.delivered.clear()
    program.open(TRAIN[100:116])
    assert len(program.planned) > planned


def test_an_open_matters_until_all_is_planned() -> None:
    program, order = Program(planner()), shuffled(TRAIN)
    program.open(order[:10])
    assert not program.planner.exhausted
    program.open(order[10:60])
    assert program.planner.exhausted
    program.open(order[60:])
    program.evict()
    program.open(shuffled(TRAIN, 2)[:16])
    assert not program.planner.exhausted


def test_in_a_scan_an_open_matters_as_long_as_files_are_pending() -> None:
    program = Program(planner())
    program.open(TRAIN[:30])
    assert not program.planner.exhausted


def test_an_epoch_after_eviction_starts_over() -> None:
    program = Program(planner())
    program.open(shuffled(TRAIN))
    program.evict()
    program.planned.clear()
    program.open(shuffled(TRAIN, 2))
    assert program.misses < 150
    assert len(program.planned) > len(TRAIN) - 150
    assert len(program.planned) == len(set(program.planned))


def test_a_few_evicted_files_do_not_start_an_epoch() -> None:
    program = Program(planner())
    program.open(shuffled(TRAIN))
    planned = len(program.planned)
    program.delivered -= set(TRAIN[::50])
    program.open(shuffled(TRAIN, 2))
    assert len(program.planned) == planned


def test_no_more_is_pending_than_the_budget_holds() -> None:
    program = Program(planner(budget=100_000))
    for ino in shuffled(TRAIN):
        program.open([ino])
        assert program.planner.pending_bytes <= 100_000
    assert len(program.planned) > 80


def test_the_known_order_is_followed_at_once_and_to_the_letter() -> None:
    subject, order = planner(), shuffled(TRAIN)
    subject.know(order[:500])
    subject.know([*order[500:], 10**12, INDEX.ino(b"val")], begin=False)
    assert [ref.ino for ref in subject.take(10_000)] == order
    assert subject.take(10) == []
    subject.opened(VAL[0])
    assert subject.take(10) == []


def test_the_known_order_is_bounded_by_the_budget() -> None:
    subject = planner(budget=50_000)
    subject.know(TRAIN)
    assert subject.take(10) == [FileRef(ino, 1000) for ino in TRAIN[:10]]
    assert len(subject.take(1000)) == 40
    for ino in TRAIN[:5]:
        subject.opened(ino)
    assert [ref.ino for ref in subject.take(1000)] == TRAIN[50:55]


def test_the_known_order_goes_on_where_the_program_stands_after_eviction() -> None:
    program, order = Program(planner()), shuffled(TRAIN)
    program.planner.know(order)
    program.open(order)
    program.evict()
    program.planned.clear()
    program.planner.know(order)
    program.open(order[:20])
    assert program.planned[:5] == [ino for ino in order if ino in program.planned][:5]
    assert set(program.planned) >= set(order[20:])


@pytest.mark.parametrize("mode", ["off", "file"])
def test_modes_without_a_data_set_plan_nothing(mode: str) -> None:
    program = Program(planner(mode))
    program.open(TRAIN)
    assert program.planned == []


def test_directory_mode_stays_in_the_directory_of_the_last_read() -> None:
    program = Program(planner("directory"))
    program.open(shuffled(TRAIN[:PER_CLASS])[:20])
    assert program.delivered == set(TRAIN[:PER_CLASS])


def test_dataset_mode_starts_with_the_first_read() -> None:
    program = Program(planner("dataset"))
    assert program.planner.take(10) == []
    program.open(TRAIN[:1])
    assert program.delivered == {*TRAIN, *VAL}


def test_prefetchers_share_the_files_between_them() -> None:
    parts = []
    for number in range(3):
        subject = planner("dataset", share=(number, 3))
        subject.opened(TRAIN[0])
        parts.append({ref.ino for ref in subject.take(10_000)})
    assert set.union(*parts) == {*TRAIN, *VAL} - {TRAIN[0]}
    assert sum(map(len, parts)) == len(TRAIN) + len(VAL) - 1


def test_prefetchers_share_a_known_order_and_keep_it() -> None:
    order = shuffled(TRAIN)
    subjects = [planner("auto", share=(number, 2)) for number in range(2)]
    for number, subject in enumerate(subjects):
        subject.know(order)
        assert [ref.ino for ref in subject.take(10_000)] == [ino for ino in order if ino % 2 == number]
        assert subject.pending == len(order)
        assert 0.9 * 1000 * len(order) < subject.pending_bytes <= 1000 * len(order)


def test_large_and_empty_files_are_left_to_others() -> None:
    index = MemoryIndex.of_sizes({"a": 0, "b": 100 << 20, "c": 5, "d": 5})
    subject = DatasetPlanner(index, ReadaheadSettings(readahead="dataset"))
    subject.opened(index.ino(b"c"))
    assert subject.take(10) == [FileRef(index.ino(b"d"), 5)]


def test_small_room_only_slows_down() -> None:
    program = Program(planner(), room=3)
    program.open(shuffled(TRAIN))
    assert len(program.planned) > len(TRAIN) / 2


ALL = [*TRAIN, *VAL]


@given(st.lists(st.tuples(st.sampled_from(ALL), st.booleans(), st.integers(0, 50)), max_size=150))
@settings(max_examples=60, deadline=None)
def test_whatever_programs_do_no_file_is_planned_twice_and_the_window_holds(
    steps: list[tuple[int, bool, int]],
) -> None:
    subject = planner()
    planned: set[int] = set()
    touched: set[int] = set()
    for ino, reads, room in steps:
        again = ino in touched
        touched.add(ino)
        subject.opened(ino)
        if reads and not again:
            subject.read(ino)
        refs = subject.take(room)
        assert len(refs) <= room
        assert planned.isdisjoint(ref.ino for ref in refs)
        assert touched.isdisjoint(ref.ino for ref in refs)
        planned.update(ref.ino for ref in refs)
        assert len(refs) <= FILES_PER_READ * len(touched) + FIRST_WINDOW
