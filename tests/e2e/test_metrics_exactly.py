"""The metrics of a mount against what its store has counted, number by number.

Nothing is read ahead, by one worker, so that every number is known before. Touch it when a metric is added
that a store or a clock can prove.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.oss_server import OssServer
from tests.servers.process import free_port
from tests.support.buckets import fill_oss, oss_options
from tests.support.command import CommandMount, Home
from tests.support.counters import rested
from tests.support.mounting import needs_fuse, wait_for
from tests.support.residency import locked_in_memory

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "exactly"
FILES = {f"{i:02}.bin": bytes([i]) * (90_000 + i) for i in range(8)}
TOTAL = sum(map(len, FILES.values()))
LARGE = 8 << 20
"""Twice the largest file that is fetched as a whole."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A mount with its store, and where its metrics are."""

    mount: CommandMount
    store: OssServer
    port: int

    def scrape(self) -> dict[str, float]:
        """Values by name, or ``name/label``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            "/".join([sample.name.removeprefix("ossmount_"), *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def settled(self) -> dict[str, float]:
        """The metrics once they stand still, but for one that never does."""
        rested(lambda: self.scrape() | {"index_age_seconds": 0.0})
        return self.scrape()

    def read_all(self) -> None:
        for name, data in FILES.items():
            assert (self.mount.path / name).read_bytes() == data

    def forget(self) -> None:
        """The kernel drops the pages of all files."""
        for name in FILES:
            descriptor = os.open(self.mount.path / name, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


@pytest.fixture
def watched(home: Home, oss: OssServer) -> Iterator[Watched]:
    fill_oss(oss, BUCKET, FILES)
    oss.put(BUCKET, "large", b"L" * LARGE)
    port = free_port()
    alone = ["--readahead", "off", "--workers", "1", "--metrics-listen", f"127.0.0.1:{port}"]
    mount = home.mount(*oss_options(oss), *alone, f"oss://{BUCKET}/", env=oss.environment())
    oss.reset_requests()
    yield Watched(mount, oss, port)
    mount.umount()
    assert home.left_behind() == []


LAYERS = ("memory", "in_flight", "prefetcher", "disk", "store")


def layers(found: dict[str, float]) -> dict[str, float]:
    return {layer: found[f"read_blocks_total/{layer}"] for layer in LAYERS}


def test_an_epoch_and_another_from_the_caches(watched: Watched) -> None:
    """Requests, bytes and hits: what the store has sent is what arrived, was kept, and was read."""
    watched.read_all()
    first = watched.settled()
    assert watched.store.requests == {"GET": len(FILES)}
    assert first["store_requests_total/get"] == first["store_get_seconds_count"] == len(FILES)
    assert first["store_requests_total/head"] == first["store_errors_total/get"] == 0
    assert first["store_received_bytes_total"] == watched.store.sent == TOTAL
    assert first["disk_cache_written_bytes_total"] == TOTAL
    assert first["read_bytes_total"] == TOTAL
    assert first["requests_total/open"] == first["first_reads_total"] == len(FILES)
    assert first["read_blocks_total/store"] == first["disk_cache_lookups_total/miss"] == len(FILES)
    assert sum(layers(first).values()) == first["requests_total/read"], "each of these READs needs one block"
    assert (first["overread_bytes"], first["read_blocks_total/disk"]) == (0, 0)
    watched.forget()
    watched.read_all()
    second = watched.settled()
    assert watched.store.requests == {"GET": len(FILES)}
    assert second["store_requests_total/get"] == len(FILES)
    assert second["read_bytes_total"] == 2 * TOTAL
    assert second["first_reads_total"] == 2 * len(FILES)
    grown = {layer: count - layers(first)[layer] for layer, count in layers(second).items()}
    assert (grown["store"], grown["memory"] + grown["disk"]) == (0, sum(grown.values()))
    assert sum(grown.values()) == second["requests_total/read"] - first["requests_total/read"]


def test_what_the_page_cache_has_costs_no_request(watched: Watched) -> None:
    watched.read_all()
    with locked_in_memory(watched.mount.path / name for name in FILES):
        before = watched.settled()
        watched.read_all()
        after = watched.settled()
    assert after["requests_total/open"] - before["requests_total/open"] == len(FILES)
    for name in ("requests_total/read", "first_reads_total", "read_bytes_total"):
        assert after[name] == before[name]


def test_what_nobody_reads_is_over_read(watched: Watched) -> None:
    descriptor = os.open(watched.mount.path / "large", os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(descriptor, 4096, 5 << 20) == b"L" * 4096
    finally:
        os.close(descriptor)
    found = watched.settled()
    received, read = found["store_received_bytes_total"], found["read_bytes_total"]
    assert received == watched.store.sent
    assert 0 < read < received
    assert found["overread_bytes"] == received - read - found["page_cache_pushed_bytes_total"]


def test_failed_requests_and_those_made_again(watched: Watched) -> None:
    watched.store.fail_next(500, "InternalError", times=2)
    watched.read_all()
    found = watched.settled()
    assert watched.store.requests == {"GET": len(FILES) + 2}
    assert found["store_requests_total/get"] == len(FILES) + 2
    assert found["store_errors_total/get"] == found["store_retries_total"] == 2
    assert (found["store_throttled_total"], found["store_hedges_total"]) == (0, 0)
    assert found["store_received_bytes_total"] == watched.store.sent == TOTAL
    assert found["read_bytes_total"] == TOTAL


def test_answers_that_ask_for_fewer_requests(watched: Watched) -> None:
    watched.store.fail_next(503, "ServiceUnavailable", times=1)
    (watched.mount.path / "00.bin").read_bytes()
    found = watched.settled()
    assert watched.store.requests == {"GET": 2}
    assert (
        found["store_throttled_total"] == found["store_retries_total"] == found["store_errors_total/get"] == 1
    )


def test_waiting_and_what_is_under_way(watched: Watched) -> None:
    """One request at a time, of half a second each: readers are stalled as long as the store takes."""
    watched.store.state.latency = 0.5
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit((watched.mount.path / "00.bin").read_bytes)
        wait_for(lambda: watched.scrape()["store_requests_in_flight"] == 1 or reading.done())
        under_way = watched.scrape()
        assert reading.result(10) == FILES["00.bin"]
    (watched.mount.path / "01.bin").read_bytes()
    took = time.monotonic() - began
    watched.store.state.latency = 0.0
    assert (under_way["store_requests_in_flight"], under_way["store_bytes_in_flight"]) == (1, 90_000)
    found = watched.settled()
    assert 1.0 <= found["read_wait_seconds_total"] <= took
    assert 1.0 <= found["store_get_seconds_sum"] <= took
    assert found["store_get_seconds_bucket/0.25"] == 0
    assert found["store_get_seconds_bucket/2.5"] == found["store_get_seconds_count"] == 2
    assert found["read_seconds_bucket/0.25"] == found["read_seconds_count"] - 2, (
        "two READs waited for the store"
    )
    assert found["store_requests_in_flight"] == found["store_bytes_in_flight"] == 0


def test_a_changed_object_is_a_stale_read(watched: Watched) -> None:
    watched.store.put(BUCKET, "00.bin", b"other" * 1000)
    with pytest.raises(OSError, match="Stale"):
        (watched.mount.path / "00.bin").read_bytes()
    found = watched.settled()
    assert found["stale_reads_total"] == found["read_errors_total/ObjectChanged"] >= 1
    assert found["store_errors_total/get"] >= 1
    assert found["store_received_bytes_total"] == watched.store.sent == 0


def test_generation_and_its_age(watched: Watched) -> None:
    first = watched.scrape()
    assert (first["index_files"], first["index_bytes"]) == (len(FILES) + 1, TOTAL + LARGE)
    assert 0 <= first["index_age_seconds"] < 60
    assert abs(time.time() - first["index_created_timestamp_seconds"]) < 60
    watched.store.put(BUCKET, "new.bin", b"new")
    began = time.time()
    refreshed = watched.mount.home.run("refresh", str(watched.mount.path), env=watched.store.environment())
    assert refreshed.status == 0, refreshed.err
    wait_for(lambda: watched.scrape()["index_generation"] != first["index_generation"])
    found = watched.settled()
    assert found["index_generation"] == first["index_generation"] + 1
    assert found["index_created_timestamp_seconds"] >= int(began)
    assert found["index_age_seconds"] <= time.time() - began + 1
    assert (found["index_files"], found["index_bytes"]) == (len(FILES) + 2, TOTAL + LARGE + 3)
