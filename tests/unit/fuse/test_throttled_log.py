"""Log lines from requests: once a minute each, and none for a reply that came twice."""

from __future__ import annotations

import logging

import pytest

from ossmount.fuse import throttled_log
from ossmount.fuse.throttled_log import AnsweredTwice, ThrottledLog


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throttled_log, "time", clock)
    return clock


def test_the_same_line_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    lines = ThrottledLog(logging.getLogger("test"))
    assert [lines.log(logging.WARNING, "a"), lines.log(logging.WARNING, "a")] == [True, False]
    assert lines.log(logging.WARNING, "b")
    clock.now += throttled_log.INTERVAL_SECONDS
    assert lines.log(logging.WARNING, "a")
    assert [record.getMessage() for record in caplog.records] == ["a", "b", "a"]


def test_memory_is_bounded_and_nothing_is_lost(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttled_log, "REMEMBERED", 2)
    lines = ThrottledLog(logging.getLogger("test"))
    assert all(lines.log(logging.WARNING, letter) for letter in "abc")
    assert lines.log(logging.WARNING, "a")
    assert not lines.log(logging.WARNING, "c")


@pytest.mark.parametrize(
    ("reason", "kept"), [("No such file or directory", False), ("Invalid argument", True)]
)
def test_only_a_reply_that_came_twice_is_dropped(reason: str, kept: bool) -> None:
    text = "fuse_read(): fuse_reply_* failed with %s"
    record = logging.LogRecord("pyfuse3", logging.ERROR, "", 1, text, (reason,), None)
    assert AnsweredTwice().filter(record) is kept
