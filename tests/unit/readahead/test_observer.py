"""How closely prefetchers listen: every open while there is something to plan, a few at a time after it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from ossmount.readahead.messages import (
    Decoder,
    Listed,
    LookedUp,
    Observation,
    Opened,
    Read,
    Reopened,
    Withdrawn,
    observation_pipe,
)
from ossmount.readahead.observer import (
    AHEAD_SECONDS,
    BUSY_AT_ONCE,
    READS_AT_ONCE,
    SOON_SECONDS,
    TOLD_AT_ONCE,
    USUAL_OPENS_PER_SECOND,
    Attention,
    Observer,
)


class Ear:
    """The reading end of a prefetcher's pipe."""

    def __init__(self) -> None:
        self.reading, self.writing = observation_pipe()
        self._decoder = Decoder()

    def heard(self) -> list[Observation]:
        """What has come since the last call."""
        try:
            return list(self._decoder.feed(os.read(self.reading, 1 << 16)))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def ears() -> Iterator[list[Ear]]:
    """Two prefetchers."""
    made = [Ear(), Ear()]
    yield made
    for ear in made:
        ear.close()


@pytest.fixture
def attention() -> Attention:
    """Of both."""
    return Attention(2)


@pytest.fixture
def observer(ears: list[Ear], attention: Attention) -> Observer:
    """A worker's, whose programs do something once a second."""
    return Observer(*(ear.writing for ear in ears), attention=attention, clock=itertools.count().__next__)


def rest(attention: Attention) -> None:
    for number in range(2):
        attention.pay(number, now=False)


def test_every_open_is_told_while_one_of_them_plans(
    ears: list[Ear], attention: Attention, observer: Observer
) -> None:
    attention.pay(0, now=False)
    assert not attention.rests
    observer.opened(5)
    assert [ear.heard() for ear in ears] == [[Opened(5)]] * 2


def test_who_plans_hears_of_what_goes_on_at_once_a_little_later(
    ears: list[Ear], attention: Attention
) -> None:
    now = [7.0]
    observer = Observer(*(ear.writing for ear in ears), attention=attention, clock=lambda: now[0])
    observer.opened(1)
    assert len(ears[1].heard()) == 1
    observer.opened(2)
    observer.read(2, 0, 100, cached=True)
    assert ears[1].heard() == [], "one took it in, and naps"
    now[0] += 2 * SOON_SECONDS
    observer.opened(3)
    assert ears[1].heard() == [Opened(2), Read(2, 0, 0), Opened(3)]
    for ino in range(BUSY_AT_ONCE):
        assert ears[1].heard() == []
        observer.opened(ino)
    assert len(ears[1].heard()) == BUSY_AT_ONCE
    observer.opened(4)
    observer.read(4, 0, 100)
    assert len(ears[1].heard()) == 2, "the program waits for its bytes"
    observer.opened(5, waits=True)
    assert len(ears[1].heard()) == 1


def test_who_is_far_ahead_hears_later_of_what_nobody_waits_for(ears: list[Ear], attention: Attention) -> None:
    now = [7.0]
    observer = Observer(*(ear.writing for ear in ears), attention=attention, clock=lambda: now[0])
    attention.pay(0, now=True, ahead=True)
    attention.pay(1, now=True)
    assert attention.is_close, "the other is not"
    attention.pay(1, now=False, ahead=True)
    assert not attention.is_close
    assert not attention.rests
    observer.opened(1)
    assert len(ears[0].heard()) == 1
    now[0] += 0.9 * AHEAD_SECONDS
    observer.opened(2)
    assert ears[0].heard() == []
    now[0] += 0.2 * AHEAD_SECONDS
    observer.opened(3)
    assert ears[0].heard() == [Opened(2), Opened(3)]
    for ino in range(TOLD_AT_ONCE):
        assert ears[0].heard() == []
        observer.opened(ino)
    assert len(ears[0].heard()) == TOLD_AT_ONCE
    observer.opened(4)
    observer.opened(5, waits=True)
    assert ears[0].heard() == [Opened(4), Opened(5)]
    attention.pay(0, now=True)
    observer.opened(6)
    now[0] += 2 * SOON_SECONDS
    observer.opened(7)
    assert ears[0].heard() == [Opened(6), Opened(7)], "it plans what comes next"


@pytest.mark.parametrize(
    ("tell", "seen", "together"),
    [(Observer.opened, Opened, TOLD_AT_ONCE), (Observer.looked_up, LookedUp, READS_AT_ONCE)],
)
def test_opens_and_lookups_are_told_together_while_nobody_plans(
    ears: list[Ear],
    attention: Attention,
    observer: Observer,
    tell: Callable[[Observer, int], None],
    seen: Callable[[int], Observation],
    together: int,
) -> None:
    rest(attention)
    for ino in range(1, together):
        tell(observer, ino)
    assert [ear.heard() for ear in ears] == [[], []]
    tell(observer, together)
    assert [ear.heard() for ear in ears] == [[seen(ino) for ino in range(1, together + 1)]] * 2
    assert observer.statistics() == {"sent": 2 * together, "dropped": 0}


def test_whatever_else_happens_is_told_at_once_and_in_order(
    ears: list[Ear], attention: Attention, observer: Observer
) -> None:
    rest(attention)
    observer.opened(5)
    observer.read(5, 0, 4096)
    assert ears[0].heard() == [Opened(5), Read(5, 0, 4096)]
    observer.opened(6)
    observer.listed(1)
    observer.withdraw(3)
    assert ears[0].heard() == [Opened(6), Listed(1), Withdrawn(3)]
    observer.opened(7)
    observer.opened(8, waits=True)
    assert ears[0].heard() == [Opened(7), Opened(8)]
    observer.opened(9)
    observer.flush()
    assert ears[0].heard() == [Opened(9)]


def test_of_files_opened_again_the_number_is_told_with_what_comes_next(
    ears: list[Ear], attention: Attention, observer: Observer
) -> None:
    observer.reopened(3)
    assert ears[0].heard() == [Opened(3)], "somebody plans"
    rest(attention)
    for ino in range(1000):
        observer.reopened(ino)
    assert ears[0].heard() == []
    observer.opened(5)
    observer.read(6, 0, 100)
    assert ears[0].heard() == [Reopened(1000), Opened(5), Read(6, 0, 100)]
    observer.reopened(3)
    observer.flush()
    assert ears[0].heard() == [Reopened(1)]
    observer.flush()
    assert ears[0].heard() == []


def test_reads_of_the_disk_cache_are_told_together_but_sooner(
    ears: list[Ear], attention: Attention, observer: Observer
) -> None:
    rest(attention)
    for ino in range(1, READS_AT_ONCE):
        observer.opened(ino)
        observer.read(ino, 0, 4096, cached=True)
    assert ears[0].heard() == []
    observer.read(9, 0, 4096, cached=True)
    assert len(ears[0].heard()) == 2 * READS_AT_ONCE - 1
    observer.read(9, 0, 4096, cached=True)
    assert ears[0].heard() == []
    attention.pay(0, now=True)
    observer.read(9, 0, 4096, cached=True)
    assert len(ears[0].heard()) == 2


def test_what_was_held_back_goes_with_the_next_open_when_somebody_plans_again(
    ears: list[Ear], attention: Attention, observer: Observer
) -> None:
    rest(attention)
    observer.opened(5)
    attention.pay(1, now=True)
    observer.opened(6)
    assert ears[1].heard() == [Opened(5), Opened(6)]


def test_where_opens_are_not_told_time_stands_for_them(ears: list[Ear], attention: Attention) -> None:
    rest(attention)
    now = [100.0]
    observer = Observer(*(ear.writing for ear in ears), attention=attention, clock=lambda: now[0])
    observer.unasked()
    observer.read(1, 0, 10)
    assert ears[0].heard() == [Read(1, 0, 10)], "of what was before the first nothing is known"
    told = 0
    for _ in range(1000):
        now[0] += 0.001
        observer.unasked()
        observer.read(1, 0, 10)
        told += sum(heard.files for heard in ears[0].heard() if isinstance(heard, Reopened))
    assert told == pytest.approx(USUAL_OPENS_PER_SECOND, abs=1)


def test_who_plans_something_hears_of_files_opened_again(
    ears: list[Ear], attention: Attention, observer: Observer
) -> None:
    assert not observer.reopened(5)
    assert ears[0].heard() == [Opened(5)]
    rest(attention)
    assert observer.reopened(5)
    assert ears[0].heard() == []
