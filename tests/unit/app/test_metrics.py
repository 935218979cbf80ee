"""From published counters to Prometheus' text: merged right, and Prometheus' own parser agrees."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ossmount.app.metrics import exposition
from ossmount.app.metrics_table import GAUGES, METRICS, PREFIX, Merge, Type, sources_of
from ossmount.app.statistics import sum_statistics
from ossmount.histogram import BOUNDS, Histogram

LIVING = os.getpid()
DEAD = (1 << 22) + 1
"""Above the largest process id that Linux hands out."""


def publish(directory: Path, kind: str, pid: int, **counters: Any) -> None:
    (directory / f"{kind}-{pid}.json").write_text(json.dumps(counters))


def samples(directory: Path) -> dict[tuple[str, str], float]:
    """Values by (name, label's value)."""
    text = exposition(directory).decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_parser_finds_every_metric_with_its_type_and_help(tmp_path: Path) -> None:
    publish(tmp_path, "worker", LIVING, errors={"ObjectChanged": 1})
    families = {f.name: f for f in text_string_to_metric_families(exposition(tmp_path).decode())}
    for metric in METRICS:
        name = PREFIX + metric.name
        family = families[name.removesuffix("_total") if metric.type is Type.COUNTER else name]
        assert family.type == metric.type.value
        assert family.documentation == metric.help
        assert family.samples


def test_a_mount_that_has_counted_nothing_has_metrics_too(tmp_path: Path) -> None:
    found = samples(tmp_path)
    assert found["ossmount_store_requests_total", "get"] == 0
    assert found["ossmount_read_seconds_count", ""] == 0


def test_counters_of_the_dead_stay_and_their_gauges_go(tmp_path: Path) -> None:
    for kind, pid in (("worker", LIVING), ("worker", DEAD), ("prefetcher", 1)):
        publish(
            tmp_path,
            kind,
            pid,
            store={"get_requests": 5},
            disk={"hit_bytes": 2, "bytes": 1000 + pid, "capacity": 9000},
            fetcher={"in_flight": 3, "limit": 128, "cache_hits": 2},
        )
    found = samples(tmp_path)
    assert found["ossmount_store_requests_total", "get"] == 15
    assert found["ossmount_disk_cache_lookups_total", "hit"] == 6
    assert found["ossmount_disk_cache_read_bytes_total", ""] == 6
    assert found["ossmount_disk_cache_bytes", ""] == 1000 + LIVING
    assert found["ossmount_disk_cache_capacity_bytes", ""] == 9000
    assert found["ossmount_store_requests_in_flight", ""] == 6
    assert found["ossmount_store_requests_limit", ""] == 256
    assert found["ossmount_processes", "worker"] == 1
    assert found["ossmount_process_exits_total", "worker"] == 1
    assert sum_statistics(tmp_path)["disk"]["bytes"] == 1000 + LIVING


def test_hits_by_layer_are_those_of_reads_not_of_prefetchers(tmp_path: Path) -> None:
    publish(tmp_path, "worker", LIVING, fetcher={"cache_hits": 7, "store_blocks": 1})
    publish(tmp_path, "prefetcher", 1, fetcher={"cache_hits": 100, "store_blocks": 100})
    found = samples(tmp_path)
    assert found["ossmount_read_blocks_total", "disk"] == 7
    assert found["ossmount_read_blocks_total", "store"] == 1


def test_a_difference_is_never_negative(tmp_path: Path) -> None:
    publish(tmp_path, "worker", LIVING, fetcher={"bytes_fetched": 10}, fs={"read_bytes": 30})
    assert samples(tmp_path)["ossmount_overread_bytes", ""] == 0
    publish(tmp_path, "worker", LIVING, fetcher={"bytes_fetched": 50}, fs={"read_bytes": 30})
    assert samples(tmp_path)["ossmount_overread_bytes", ""] == 20
    publish(tmp_path, "worker", LIVING, fetcher={"bytes_fetched": 50}, fs={"read_bytes": 60})
    assert samples(tmp_path)["ossmount_overread_bytes", ""] == 0


def test_what_is_read_again_from_the_disk_cache_hides_no_over_read(tmp_path: Path) -> None:
    counters = {"fetcher": {"bytes_fetched": 50}, "disk": {"hit_bytes": 30}, "fs": {"read_bytes": 60}}
    publish(tmp_path, "worker", LIVING, **counters)
    assert samples(tmp_path)["ossmount_overread_bytes", ""] == 20


def test_histograms_add_up_and_are_cumulative(tmp_path: Path) -> None:
    for pid, seconds in ((LIVING, (0.0004, 0.02, 0.02, 100.0)), (DEAD, (0.02, 0.0005))):
        histogram = Histogram()
        for value in seconds:
            histogram.observe(value)
        publish(tmp_path, "worker", pid, store_details={"latency": {"get": histogram.statistics()}})
    found = samples(tmp_path)
    counts = [found["ossmount_store_get_seconds_bucket", str(bound)] for bound in BOUNDS]
    assert counts == sorted(counts)
    assert counts[0] == 2  # a bound belongs to its bucket
    assert found["ossmount_store_get_seconds_bucket", "0.025"] == 5
    assert found["ossmount_store_get_seconds_bucket", "+Inf"] == 6
    assert found["ossmount_store_get_seconds_count", ""] == 6
    assert found["ossmount_store_get_seconds_sum", ""] == pytest.approx(100.0609)


def test_errors_become_series_and_keys_never_do(tmp_path: Path) -> None:
    publish(
        tmp_path,
        "worker",
        LIVING,
        errors={"ObjectChanged": 2, "ObjectMissing": 1, "AccessDenied": 4},
        fetching=["secret/key.jpg"],
    )
    found = samples(tmp_path)
    assert found["ossmount_read_errors_total", "AccessDenied"] == 4
    assert found["ossmount_stale_reads_total", ""] == 3
    assert b"secret" not in exposition(tmp_path)


def test_half_written_files_are_left_out(tmp_path: Path) -> None:
    publish(tmp_path, "worker", LIVING, store={"get_requests": 5})
    (tmp_path / "worker-2.json").write_text('{"store": {"get_requ')
    (tmp_path / ".worker-3.json.3").write_text('{"store": {"get_requests": 7}}')
    assert samples(tmp_path)["ossmount_store_requests_total", "get"] == 5


def test_names_follow_prometheus_guidelines() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[a-z_]+", metric.name)
        assert (metric.type is Type.COUNTER) == metric.name.endswith("_total"), metric.name
        assert not re.search(r"milli|micro|_ms|_kb|_mb", metric.name)
        assert metric.help.endswith(".")
    series = [(metric.name, metric.value) for metric in METRICS]
    assert len(series) == len(set(series))
    for metric in METRICS:
        same = [m for m in METRICS if m.name == metric.name]
        assert len({(m.help, m.type, m.label) for m in same}) == 1


def test_counters_never_come_from_gauges() -> None:
    """A counter that falls is read as a restart, and its rate is nonsense."""
    for metric in METRICS:
        merges = {GAUGES.get(name, Merge.SUM) for _, name, _ in sources_of(metric)}
        if metric.type is Type.COUNTER:
            assert merges == {Merge.SUM}, metric.name
            assert all(sign > 0 for _, _, sign in sources_of(metric)), metric.name
