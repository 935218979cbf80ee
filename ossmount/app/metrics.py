"""A mount's counters as Prometheus sees them, by :mod:`ossmount.app.metrics_table`.

What may live here: the way from published counters to metric families. Who may touch it: whoever adds a
kind of metric; a new metric is a row of the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from ossmount import __version__
from ossmount.app.metrics_table import METRICS, PREFIX, Metric, Type, sources_of
from ossmount.app.statistics import Told, children_in, merged
from ossmount.histogram import BEYOND, BOUNDS

Value = float | Mapping[str, Any]


def exposition(directory: Path) -> bytes:
    """The metrics of the mount whose children publish in ``directory``, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MountCollector(directory))
    return generate_latest(registry)


class MountCollector(Collector):
    """Reads what the children published, once for each scrape."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Family]:
        """Every metric that has a value, in the order of the table."""
        yield _build_info()
        counters = Gathered(children_in(self._directory))
        for _, rows in groupby(METRICS, key=lambda metric: metric.name):
            yield _family(list(rows), counters)


def _build_info() -> Family:
    family = GaugeMetricFamily(
        f"{PREFIX}build_info", "Always 1; the label tells the version.", labels=["version"]
    )
    family.add_metric([__version__], 1)
    return family


class Gathered:
    """Counters of all children, and of each kind alone."""

    def __init__(self, children: list[Told]) -> None:
        kinds = sorted({child.kind for child in children})
        self._by_kind = {kind: merged([c for c in children if c.kind == kind]) for kind in kinds}
        everything = merged(children)
        everything["processes"] = {
            state: {kind: sum(c.kind == kind and c.living is living for c in children) for kind in kinds}
            for state, living in (("living", True), ("ended", False))
        }
        index = everything.get("index", {})
        if index:
            index["age"] = max(0.0, time.time() - index["created"])
        self._by_kind[""] = everything

    def value(self, kind: str, name: str) -> Value:
        """What stands under the dotted name; 0 where nobody counted it."""
        found: Any = self._by_kind.get(kind, {})
        for part in name.split("."):
            found = found.get(part, 0) if isinstance(found, Mapping) else 0
        return found if isinstance(found, int | float | Mapping) else 0

    def number(self, metric: Metric) -> float:
        """The sum of the metric's sources; a difference is never negative."""
        total = 0.0
        for kind, name, sign in sources_of(metric):
            value = self.value(kind, name)
            total += sign * value if isinstance(value, int | float) else 0
        return max(0.0, total)

    def mapping(self, metric: Metric) -> Mapping[str, Any]:
        """What stands below the metric's one source."""
        ((kind, name, _),) = sources_of(metric)
        value = self.value(kind, name)
        return value if isinstance(value, Mapping) else {}


def _family(rows: list[Metric], counters: Gathered) -> Family:
    first = rows[0]
    name = PREFIX + first.name
    if first.type is Type.HISTOGRAM:
        return _histogram(name, first, counters.mapping(first))
    labels = [first.label] if first.label else []
    family: CounterMetricFamily | GaugeMetricFamily
    if first.type is Type.COUNTER:
        family = CounterMetricFamily(name, first.help, labels=labels)
    else:
        family = GaugeMetricFamily(name, first.help, labels=labels)
    for row in rows:
        if row.each:
            for value, count in sorted(counters.mapping(row).items()):
                family.add_metric([value], count)
        else:
            family.add_metric([row.value] if row.label else [], counters.number(row))
    return family


def _histogram(name: str, metric: Metric, counts: Mapping[str, Any]) -> Family:
    """Buckets made cumulative, as Prometheus wants them."""
    running, buckets = 0.0, []
    for bound in (*map(str, BOUNDS), BEYOND):
        running += counts.get(bound, 0)
        buckets.append((bound, running))
    family = HistogramMetricFamily(name, metric.help)
    family.add_metric([], buckets, counts.get("sum", 0.0))
    return family
