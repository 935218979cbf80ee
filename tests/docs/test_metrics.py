"""docs/metrics.md and the Grafana dashboard name the metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ossmount.app.metrics_table import METRICS, PREFIX, Type
from ossmount.cli.reference import metric_table, with_tables

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/metrics.md"
DASHBOARD = ROOT / "packaging/grafana/ossmount.json"
_NAME = re.compile(rf"\b{PREFIX}[a-z_]+")


def exposed() -> dict[str, Type]:
    """Names as Prometheus stores them."""
    names: dict[str, Type] = {f"{PREFIX}build_info": Type.GAUGE}
    for metric in METRICS:
        name = PREFIX + metric.name
        names[name] = metric.type
        if metric.type is Type.HISTOGRAM:
            names |= dict.fromkeys((f"{name}_bucket", f"{name}_count", f"{name}_sum"), Type.COUNTER)
    return names


def expressions() -> list[str]:
    """Every query of the dashboard."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("expr"), str):
                yield value["expr"]
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    return list(walk(json.loads(DASHBOARD.read_text())))


def test_the_page_is_generated() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page, metric_table), "run 'make docs'"


def test_every_metric_is_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [m.name for m in METRICS if f"| `{PREFIX}{m.name}` | {m.type.value} |" not in page] == []
    assert [m.value for m in METRICS if m.value and f"`{m.value}`" not in page] == []


def test_the_page_names_no_other_metric() -> None:
    assert set(_NAME.findall(PAGE.read_text(encoding="utf-8"))) - set(exposed()) == set()


@pytest.mark.parametrize(
    "name",
    [
        "requests_total",
        "read_bytes_total",
        "read_seconds_bucket",
        "store_requests_total",
        "store_received_bytes_total",
        "store_get_seconds_bucket",
        "first_reads_total",
        "page_cache_pushes_total",
        "read_blocks_total",
        "disk_cache_lookups_total",
        "overread_bytes",
        "store_requests_in_flight",
        "store_hedges_total",
        "store_retries_total",
        "stale_reads_total",
        "read_wait_seconds_total",
        "index_generation",
        "index_age_seconds",
    ],
)
def test_the_dashboard_shows_what_operators_ask_for(name: str) -> None:
    assert any(f"{PREFIX}{name}{{" in expression for expression in expressions())


@pytest.mark.parametrize("expression", expressions())
def test_queries_ask_for_metrics_that_exist(expression: str) -> None:
    names = _NAME.findall(expression)
    assert names
    assert set(names) - set(exposed()) == set()


@pytest.mark.parametrize("expression", expressions())
def test_labels_in_queries_exist(expression: str) -> None:
    """A misspelt label value is a panel without data."""
    known = {(PREFIX + metric.name, metric.label): set[str]() for metric in METRICS if metric.label}
    for metric in METRICS:
        if metric.value:
            known[PREFIX + metric.name, metric.label].add(metric.value)
    for name, matchers in re.findall(rf"({PREFIX}[a-z_]+)\{{([^}}]*)\}}", expression):
        for label, value in re.findall(r'(\w+)="([^"]*)"', matchers):
            if label in {"instance", "job"}:
                continue
            assert value in known[name, label]


@pytest.mark.parametrize("expression", expressions())
def test_rates_are_of_counters_alone(expression: str) -> None:
    kinds = exposed()
    for name in re.findall(rf"(?:rate|increase)\(({PREFIX}[a-z_]+)", expression):
        assert kinds[name] is Type.COUNTER


def test_panels_do_not_overlap_and_have_titles() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
