"""The live view of ``ossmount stats --watch``: rates, hit ratios, latencies, and what is being fetched.

What may live here: the way from two samples of counters to a picture; nothing is counted. Who may touch it:
whoever changes what the view shows. Counters are those of ``ossmount stats --json``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ossmount.cli.output import printable, size_text

INTERVAL = 1.0
"""Seconds between two looks; counters are published twice a second."""

WIDTH = 96
"""Columns: fits a usual terminal, and the picture in the documents."""

BAR = 16
"""Characters of a full bar."""

Counters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at a moment; ``at`` in seconds of any clock."""

    at: float
    counters: Counters

    def find(self, *path: str) -> Any:
        """What stands under these names, one within the other; None where nobody counted it."""
        found: Any = self.counters
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def value(self, name: str) -> float:
        """The counter with that dotted name, 0 where there is none."""
        found = self.find(*name.split("."))
        return float(found) if isinstance(found, int | float) else 0.0


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two samples."""

    before: Sample
    now: Sample

    def more(self, *names: str) -> float:
        """By how much these counters grew together."""
        return sum(max(0.0, self.now.value(name) - self.before.value(name)) for name in names)

    def rate(self, *names: str) -> float:
        """The same a second."""
        return self.more(*names) / max(self.now.at - self.before.at, 1e-3)

    def quantile(self, histogram: str, part: float) -> float | None:
        """The upper bound in seconds of the bucket in which the quantile lies; None without observations."""
        path = histogram.split(".")
        then, now = self.before.find(*path) or {}, self.now.find(*path) or {}
        grown = {name: now[name] - then.get(name, 0) for name in now if name != "sum"}
        total, running = sum(grown.values()), 0.0
        for bound, count in grown.items():
            running += count
            if total > 0 and running >= part * total:
                return float(bound.replace("+Inf", "inf"))
        return None


def watch(read: Callable[[], Counters], mountpoint: str, out: TextIO) -> None:
    """Shows the view until interrupted. Raises what ``read`` raises: the mount may end."""
    console = Console(file=out)
    before = Sample(time.monotonic(), read())
    now = before
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(view(Interval(before, now), mountpoint), refresh=True)
                time.sleep(INTERVAL)
                before, now = now, Sample(time.monotonic(), read())
    except KeyboardInterrupt:
        return


def view(interval: Interval, mountpoint: str) -> RenderableType:
    """The picture of one interval."""
    grid = Table.grid(padding=(0, 3), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(_rates(interval), _layers(interval))
    grid.add_row(_store(interval), _state(interval))
    whole = Table.grid(expand=True)
    whole.add_row(grid)
    whole.add_row(_fetching(interval.now))
    return Panel(whole, title=Text(f"ossmount {printable(mountpoint)}"), width=WIDTH, border_style="blue")


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold cyan", show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    return table


def _rates(interval: Interval) -> Table:
    table = _table("Programs")
    for name, counter in (
        ("opens", "fs.opens"),
        ("look-ups", "fs.lookups"),
        ("listings", "fs.readdirs"),
        ("READ requests", "fs.reads"),
    ):
        table.add_row(name, f"{interval.rate(counter):,.0f}/s")
    if interval.now.value("fs.opens_unasked"):
        table.add_row("", "opens go unasked")
    table.add_row("read", _bytes_rate(interval, "fs.read_bytes"))
    table.add_row("readers stalled", f"{interval.rate('fetcher.wait_seconds'):,.1f}")
    return table


def _layers(interval: Interval) -> Table:
    """Where files and blocks came from. Files without a READ were served by the kernel's page cache."""
    table = _table("Served from")
    opens, missed = interval.more("fs.opens"), interval.more("fs.first_reads")
    table.add_row("page cache", *_share(max(0.0, opens - missed), opens))
    layers = {
        "memory": interval.more("fetcher.memory_hits"),
        "on its way": interval.more("fetcher.shared") + interval.more("shelves.found"),
        "disk": interval.more("fetcher.cache_hits"),
    }
    asked = interval.more("fetcher.store_blocks")
    whole = sum(layers.values()) + asked
    for name, count in layers.items():
        table.add_row(name, *_share(count, whole))
    table.add_row("store", *_share(asked, whole))
    table.add_row(
        "pushed ahead", f"{interval.rate('pages.stored'):,.0f}/s", _bytes_rate(interval, "pages.stored_bytes")
    )
    return table


def _share(count: float, whole: float) -> tuple[str, str]:
    if whole <= 0:
        return "-", ""
    filled = round(BAR * min(1.0, count / whole))
    return f"{100 * count / whole:.0f} %", "━" * filled + "╌" * (BAR - filled)


def _store(interval: Interval) -> Table:
    table = _table("Store")
    table.add_row("GET", f"{interval.rate('store.get_requests'):,.0f}/s")
    table.add_row("received", _bytes_rate(interval, "store.get_bytes"))
    for part in (0.5, 0.95):
        table.add_row(f"GET p{part * 100:.0f}", _bound(interval.quantile("store_details.latency.get", part)))
    for name, first, second in (
        ("failed, retried", "store.get_errors", "store_details.repeats"),
        ("hedged, throttled", "fetcher.hedges", "fetcher.throttled"),
    ):
        table.add_row(name, f"{interval.now.value(first):,.0f}, {interval.now.value(second):,.0f}")
    return table


def _state(interval: Interval) -> Table:
    now, table = interval.now, _table("Now")
    table.add_row("in flight", f"{now.value('fetcher.in_flight'):,.0f} of {now.value('fetcher.limit'):,.0f}")
    table.add_row("fetched, not opened", f"{now.value('prefetcher.pending'):,.0f} files")
    held, limit = now.value("disk.bytes"), now.value("disk.capacity")
    table.add_row("disk cache", f"{size_text(int(held))} of {size_text(int(limit))}")
    table.add_row("READ p95", _bound(interval.quantile("fs.read_latency", 0.95)))
    errors = now.find("errors") or {}
    table.add_row("errors so far", f"{sum(errors.values()):,.0f}")
    return table


def _fetching(now: Sample) -> Text:
    keys = now.find("fetching") or []
    lines = [f"  {printable(key)}" for key in keys[:4]]
    lines += [""] * (4 - len(lines))  # the picture keeps its height
    return Text("\n".join(["Fetching", *lines]), overflow="ellipsis", no_wrap=True)


def _bytes_rate(interval: Interval, name: str) -> str:
    return f"{size_text(int(interval.rate(name)))}/s"


def _bound(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "> 30 s" if seconds == float("inf") else f"≤ {seconds * 1000:g} ms"
