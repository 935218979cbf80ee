"""Who counts as a crowd, and what policy a process then runs under."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.fuse.scheduling import LEAST_WINDOW, WINDOW_OF_PROCESSOR, Crowd, let_run, window


def followed(processors: int, threads: Iterable[int]) -> list[bool]:
    """What a crowd on that many processors makes of opens by these threads."""
    answers: list[bool] = []
    crowd = Crowd(processors, answers.append)
    for thread in threads:
        crowd.opened(thread)
    return answers


def test_more_readers_than_processors_are_a_crowd() -> None:
    assert followed(2, [1, 2, 3, 1] * (LEAST_WINDOW // 4)) == [True]


def test_as_many_readers_as_processors_are_none() -> None:
    assert followed(4, [1, 2, 3, 4] * LEAST_WINDOW) == []


def test_one_reader_that_is_left_ends_it() -> None:
    assert followed(2, [*range(LEAST_WINDOW), *[1] * LEAST_WINDOW]) == [True, False]


def test_few_opens_say_nothing() -> None:
    assert followed(2, range(LEAST_WINDOW - 1)) == []


def test_large_machines_are_watched_for_longer() -> None:
    opens = 100 * WINDOW_OF_PROCESSOR
    assert followed(100, range(opens - 1)) == []
    assert followed(100, range(opens)) == [True]


def test_readers_of_a_foreign_namespace_are_none() -> None:
    assert followed(1, [0] * 10 * LEAST_WINDOW) == []


@given(st.integers(1, 8), st.lists(st.integers(0, 9), max_size=6 * LEAST_WINDOW))
def test_it_follows_changes_only(processors: int, threads: list[int]) -> None:
    answers = followed(processors, threads)
    assert answers == [number % 2 == 0 for number in range(len(answers))]
    if len(set(threads)) <= processors:
        assert answers == []


def in_a_thread(act: Callable[[], None]) -> int:
    """The policy of a thread after ``act``."""
    found: list[int] = []

    def run() -> None:
        act()
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_lets_others_run_and_comes_back() -> None:
    before = os.sched_getscheduler(0)
    assert in_a_thread(let_run) == os.SCHED_BATCH
    assert in_a_thread(lambda: (let_run(), let_run(batch=False))[0]) == os.SCHED_OTHER
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("policy", [os.SCHED_IDLE, os.SCHED_BATCH])
def test_a_policy_that_somebody_chose_stays(policy: int) -> None:
    def come_and_go() -> None:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        let_run()
        crowd = Crowd.on_this_machine()
        opens = window(len(os.sched_getaffinity(0)))
        for thread in [*range(opens), *[1] * opens]:
            crowd.opened(thread)

    assert in_a_thread(come_and_go) == policy
