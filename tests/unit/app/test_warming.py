"""The client's part of warming: what it sends again, and when it gives up, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ossmount.app import warming
from ossmount.app.warming import STALLED_SECONDS, UNATTENDED_SECONDS, Warmed, _Run
from ossmount.errors import MountError

FILE_BYTES = 10


@dataclass
class Mount:
    """Stands where the control socket is, and keeps the time. ``happens`` tells what is so from when on.

    Batches are done at the first look after ``done_at`` if the prefetchers of that moment know them.
    """

    happens: Mapping[float, Mapping[str, int]]
    """Counters of the supervisor by the second from which they hold."""
    done_at: float
    now: float = 0.0
    batches: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By number: how many files, and the restarts when it was sent."""

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def warm(self, batch: int, inos: Sequence[int]) -> None:
        self.batches[batch] = (len(inos), self.supervisor()["restarts"])

    def withdraw(self, batch: int) -> None:
        del self.batches[batch]

    def supervisor(self) -> Mapping[str, int]:
        return self.happens[max(second for second in self.happens if second <= self.now)]

    def stats(self) -> dict[str, Any]:
        nothing = dict.fromkeys(Warmed.__slots__, 0)
        counters = {
            f"batch-{batch}": nothing | {"files": files, "bytes": files * FILE_BYTES}
            for batch, (files, restarts) in self.batches.items()
            if self.now >= self.done_at and restarts == self.supervisor()["restarts"]
        }
        return {"counters": {"warm": counters}, "supervisor": self.supervisor()}


def warm(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> Warmed:
    monkeypatch.setattr(warming, "time", mount)
    return _Run(cast("Any", mount), 3 * FILE_BYTES, lambda _: None).through(iter([[1, 2], [3]]))


SERVING = {"prefetchers": 1, "restarts": 0}
NONE_THERE = {"prefetchers": 0, "restarts": 0}
NEXT = {"prefetchers": 1, "restarts": 3}


def test_what_a_swap_ended_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No prefetcher is there for a while, and none had told of progress for long: the store is slow."""
    mount = Mount({0: SERVING, 60: NONE_THERE, 62: NEXT}, done_at=90)
    assert warm(mount, monkeypatch) == Warmed(3, 3 * FILE_BYTES, 0, 0, 0)
    assert mount.now < 100


@pytest.mark.parametrize(
    ("happens", "seconds"),
    [({0: SERVING}, STALLED_SECONDS), ({0: SERVING, 60: NONE_THERE}, 60 + UNATTENDED_SECONDS)],
)
def test_it_gives_up_where_nothing_moves(
    monkeypatch: pytest.MonkeyPatch, happens: Mapping[float, Mapping[str, int]], seconds: float
) -> None:
    mount = Mount(happens, done_at=1e9)
    with pytest.raises(MountError, match="no progress"):
        warm(mount, monkeypatch)
    assert seconds < mount.now < seconds + 1


def test_what_is_within_a_limit_of_bytes() -> None:
    lengths = [10, 0, 20, 5]
    assert [warming._within(lengths, limit) for limit in (None, 35, 34, 30, 9, 0)] == [4, 4, 3, 3, 0, 0]


def test_batches_end_before_too_many_bytes_or_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "BATCH_BYTES", 100)
    monkeypatch.setattr(warming, "BATCH_FILES", 3)
    lengths = [500, 60, 40, 1, 0, 0, 0, 0, 99, 2]
    batches = [list(batch) for batch in warming._batches(range(10), lengths)]
    assert batches == [[0], [1, 2], [3, 4, 5], [6, 7, 8], [9]]
