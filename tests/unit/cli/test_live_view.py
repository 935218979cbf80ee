"""The live view: what is shown is the difference between two samples."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from ossmount.cli import live_view
from ossmount.cli.live_view import WIDTH, Interval, Sample, view, watch
from ossmount.errors import MountError
from ossmount.histogram import Histogram


def latencies(*seconds: float) -> dict[str, float]:
    histogram = Histogram()
    for value in seconds:
        histogram.observe(value)
    return histogram.statistics()


BEFORE = Sample(10.0, {"fs": {"opens": 100, "first_reads": 50, "read_latency": latencies(9.0)}})
NOW = Sample(
    12.0,
    {
        "fs": {"opens": 300, "first_reads": 100, "reads": 80, "read_latency": latencies(9.0, 0.002, 0.002)},
        "fetcher": {"memory_hits": 1, "cache_hits": 3, "in_flight": 7, "limit": 128},
        "errors": {"ObjectChanged": 2},
        "fetching": ["class_01/\x1b[2Jimage.jpg", "b"],
    },
)


def shown(interval: Interval) -> str:
    console = Console(width=WIDTH, file=io.StringIO(), record=True)
    console.print(view(interval, "/mnt/train"))
    return console.export_text()


def test_rates_shares_and_gauges() -> None:
    text = shown(Interval(BEFORE, NOW))
    for part in ("/mnt/train", "100/s", "40/s", "75 %", "25 %", "7 of 128", "errors so far"):
        assert part in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_names_that_are_no_text_do_not_reach_the_terminal() -> None:
    text = shown(Interval(BEFORE, NOW))
    assert "\x1b" not in text
    assert "class_01/\\x1b[2Jimage.jpg" in text


def test_nothing_happened() -> None:
    text = shown(Interval(NOW, NOW))
    assert "75 %" not in text
    assert "0/s" in text
    assert shown(Interval(Sample(0, {}), Sample(0, {})))


def test_quantiles_are_of_the_interval_alone() -> None:
    interval = Interval(BEFORE, NOW)
    assert interval.quantile("fs.read_latency", 0.95) == 0.0025
    assert Interval(Sample(0, {}), NOW).quantile("fs.read_latency", 0.95) == 10.0
    assert interval.quantile("store_details.latency.get", 0.5) is None
    hung = Sample(1, {"h": latencies(1000.0)})
    assert Interval(Sample(0, {}), hung).quantile("h", 0.5) == float("inf")


def test_watching_ends_with_the_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_view, "INTERVAL", 0.0)
    answers = iter([BEFORE.counters, NOW.counters])

    def read() -> Mapping[str, Any]:
        try:
            return next(answers)
        except StopIteration:
            raise MountError("gone") from None

    out = io.StringIO()
    with pytest.raises(MountError, match="gone"):
        watch(read, "/m", out)
    assert "ossmount /m" in out.getvalue()
