"""What progress looks like, and when it is shown."""

from __future__ import annotations

import io
import json
import os

import pytest

from ossmount.cli.progress import (
    PlainLines,
    ProgressReport,
    TerminalLine,
    clock_text,
    describe,
    pace,
    progress_on,
)
from ossmount.model import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def listing(done: int, total: int | None = None) -> Progress:
    return Progress("listing", done, total, "keys")


def test_pace_is_the_mean_rate() -> None:
    assert pace(listing(50, 200), 10).rate == 5
    assert pace(listing(50, 200), 10).left == 30
    assert pace(listing(50), 10).left is None
    assert pace(listing(0, 200), 10).left is None
    assert pace(listing(5, 200), 0).rate == 0


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.9, "1:05"), (3661, "1:01:01")])
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_a_line() -> None:
    progress = listing(120_000, 240_000)
    assert describe(progress, pace(progress, 10)) == "listing: 120,000 of 240,000 keys, 12,000/s, 0:10 left"
    assert describe(listing(7), pace(listing(7), 7)) == "listing: 7 keys, 1/s"


def test_plain_lines_come_now_and_then_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    report = ProgressReport(PlainLines(stream), clock)
    for second in range(12):
        clock.now = 100.0 + second
        report(listing(second * 10, 120))
    report(listing(120, 120))
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "listing: 50 of 120 keys",
        "listing: 100 of 120 keys",
        "listing: 120 of 120 keys",
    ]


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["pipe", "terminal"])
def test_lines_are_objects_where_the_log_is(stream: io.StringIO) -> None:
    with progress_on(stream, "json") as report:
        report(listing(0, 10))
        report(listing(10, 10))
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["message"].startswith("listing: 10 of 10 keys")


def test_a_terminal_line_is_drawn_over_itself_and_ended() -> None:
    stream, clock = Terminal(), Clock()
    display = TerminalLine(stream)
    report = ProgressReport(display, clock)
    report(listing(0, 10))
    clock.now += 1
    report(listing(5, 10))
    assert stream.getvalue().startswith("\r\x1b[2K")
    assert "5 of 10 keys" in stream.getvalue()
    assert "\n" not in stream.getvalue()
    display.close()
    display.close()
    assert stream.getvalue().count("\n") == 1


def test_a_finished_stage_keeps_its_line() -> None:
    stream, clock = Terminal(), Clock()
    display = TerminalLine(stream)
    report = ProgressReport(display, clock)
    report(listing(0, 10))
    clock.now += 1
    report(listing(10, 10))
    display.close()
    assert stream.getvalue().count("\n") == 1


def test_the_parent_ends_a_line_that_a_forked_child_has_drawn() -> None:
    stream = Terminal()
    display = TerminalLine(stream)
    child = os.fork()
    if child == 0:
        display.show(listing(5), pace(listing(5), 1))
        os._exit(0)
    os.waitpid(child, 0)
    display.close()
    assert stream.getvalue() == "\n"


def test_the_stream_decides() -> None:
    for stream, marks in ((io.StringIO(), 0), (Terminal(), 1)):
        with progress_on(stream) as report:
            report(listing(0, 10))
            report(listing(10, 10))
        assert stream.getvalue().count("\x1b[2K") == marks
        assert "10 of 10 keys" in stream.getvalue()
