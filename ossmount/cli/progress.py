"""Progress on standard error: a line with rate and time left on a terminal, plain lines elsewhere.

What may live here: how progress looks. Who may touch it: whoever changes that. It keeps no thread and never
hides the cursor, because a mount forks right after an index was built, and part of the work reports from
a forked child.
"""

from __future__ import annotations

import mmap
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TextIO

from ossmount.cli.output import size_text
from ossmount.model import Progress
from ossmount.protocols import Report

PLAIN_INTERVAL = 5.0
"""Seconds between plain lines: a log of a long listing stays readable."""

TERMINAL_INTERVAL = 0.1
"""Seconds between redraws: smooth to the eye, no cost beside half a million rows a second."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pace:
    """A stage so far: ``elapsed`` in seconds, ``rate`` in units a second, ``left`` in seconds or None."""

    elapsed: float
    rate: float
    left: float | None


def pace(progress: Progress, elapsed: float) -> Pace:
    """Rate and time left, from the stage's mean rate."""
    rate = progress.done / elapsed if elapsed > 0 else 0.0
    if progress.total is None or rate <= 0:
        return Pace(elapsed, rate, None)
    return Pace(elapsed, rate, max(0, progress.total - progress.done) / rate)


def describe(progress: Progress, so_far: Pace) -> str:
    """One plain line: ``listing: 120,000 keys, 24,000/s``; bytes in units: ``warming: 1.0 of 2.5 GiB …``."""
    left = f", {clock_text(so_far.left)} left" if so_far.left is not None else ""
    if progress.unit == "bytes":
        of = f" of {size_text(progress.total)}" if progress.total is not None else ""
        return f"{progress.stage}: {size_text(progress.done)}{of}, {size_text(int(so_far.rate))}/s{left}"
    of = f" of {progress.total:,}" if progress.total is not None else ""
    return f"{progress.stage}: {progress.done:,}{of} {progress.unit}, {so_far.rate:,.0f}/s{left}"


def clock_text(seconds: float) -> str:
    """``seconds`` as ``m:ss`` or ``h:mm:ss``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class _Display(Protocol):
    interval: float

    def show(self, progress: Progress, so_far: Pace) -> None: ...

    def close(self) -> None: ...


class PlainLines:
    """A line every few seconds, for logs and pipes; ``form`` is that of the log, ``text`` or ``json``."""

    interval = PLAIN_INTERVAL

    def __init__(self, stream: TextIO, form: str = "text") -> None:
        self._stream = stream
        self._form = form

    def show(self, progress: Progress, so_far: Pace) -> None:
        """Prints the line."""
        line = describe(progress, so_far)
        if self._form == "json":
            from ossmount.app.logs import json_line

            line = json_line(line)
        print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class TerminalLine:
    """One line with a bar that is drawn over itself."""

    interval = TERMINAL_INTERVAL

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Shared with forked children: whoever drew last, the parent ends the line.
        self._open = mmap.mmap(-1, 1)

    def show(self, progress: Progress, so_far: Pace) -> None:
        """Draws the line anew; a finished stage keeps its line."""
        finished = progress.total is not None and progress.done >= progress.total
        self._stream.write(f"\r\x1b[2K{self._render(progress, so_far)}" + ("\n" if finished else ""))
        self._stream.flush()
        self._open[0] = 0 if finished else 1

    def _render(self, progress: Progress, so_far: Pace) -> str:
        from rich.console import Console
        from rich.progress_bar import ProgressBar

        console = Console(file=self._stream, force_terminal=True)
        with console.capture() as captured:
            if progress.total:
                console.print(ProgressBar(progress.total, progress.done, width=24), end=" ")
            text = describe(progress, so_far)
            console.print(text[: max(20, console.width - 27)], end="", highlight=False, markup=False)
        return captured.get().replace("\n", "")

    def close(self) -> None:
        """Ends the line, so that what is printed next has one of its own."""
        if self._open[0]:
            self._stream.write("\n")
            self._stream.flush()
            self._open[0] = 0


class ProgressReport:
    """A :data:`~ossmount.protocols.Report` that shows stages one after the other."""

    def __init__(self, display: _Display, clock: Clock = time.monotonic) -> None:
        self._display = display
        self._clock = clock
        self._stage = ""
        self._began = 0.0
        self._shown = 0.0

    def __call__(self, progress: Progress) -> None:
        """Shows ``progress`` unless something was shown just now; first steps and last ones count."""
        now = self._clock()
        if progress.stage != self._stage:
            self._display.close()
            self._stage, self._began, self._shown = progress.stage, now, now
            return
        finished = progress.total is not None and progress.done >= progress.total
        if now - self._shown >= self._display.interval or finished:
            self._shown = now
            self._display.show(progress, pace(progress, now - self._began))


@contextmanager
def progress_on(stream: TextIO | None = None, form: str = "text") -> Iterator[Report]:
    """A report on ``stream`` (standard error), fit for what it is, in the form of the log."""
    target = stream or sys.stderr
    drawn = target.isatty() and form == "text"
    display: TerminalLine | PlainLines = TerminalLine(target) if drawn else PlainLines(target, form)
    try:
        yield ProgressReport(display)
    finally:
        display.close()
