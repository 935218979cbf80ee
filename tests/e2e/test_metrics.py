"""A scraped mount: Prometheus' parser takes the answer, and the numbers are those that the server counted."""

from __future__ import annotations

import os
import random
import signal
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.process import free_port
from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.command import CommandMount, Home
from tests.support.mounting import needs_fuse, wait_for

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "counted"
FILES = {f"{i:02}.bin": random.Random(i).randbytes(20_000 + i) for i in range(40)}
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture(scope="module")
def objects(s3_gateway: S3Server) -> S3Server:
    client = s3_gateway.client()
    client.create_bucket(Bucket=BUCKET)
    for key, data in FILES.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=data)
    return s3_gateway


def scrape(port: int) -> dict[str, float]:
    """Values by name, or ``name/label``."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        "/".join([sample.name.removeprefix("ossmount_"), *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read_all(path: Path) -> None:
    for key, data in FILES.items():
        assert (path / key).read_bytes() == data


def test_numbers_add_up_over_processes_and_their_deaths(
    home: Home, objects: S3Server, s3_relay: Relay
) -> None:
    port = free_port()
    options = ["--endpoint-url", s3_relay.endpoint_url, "--addressing-style", "path"]
    watched = ["--metrics-listen", f"127.0.0.1:{port}", "--workers", "3", "--prefetchers", "2"]
    mounted = home.mount(*options, *watched, f"s3://{BUCKET}/", env=objects.environment())
    listings = s3_relay.requests.get("LIST", 0)
    read_all(mounted.path)
    settled(mounted, s3_relay, port, listings)
    found = scrape(port)
    assert found["requests_total/open"] == len(FILES)
    assert found["first_reads_total"] + found["page_cache_pushes_total/stored"] >= len(FILES)
    assert found["requests_total/read"] == found["read_seconds_count"] == found["read_seconds_bucket/+Inf"]
    assert found["store_get_seconds_count"] == found["store_requests_total/get"]
    assert found["store_received_bytes_total"] >= TOTAL
    assert found["disk_cache_written_bytes_total"] <= found["store_received_bytes_total"]
    assert (found["index_files"], found["index_bytes"]) == (len(FILES), TOTAL)
    assert found["index_age_seconds"] < 600
    assert (found["processes/worker"], found["processes/prefetcher"]) == (3, 2)
    assert found["store_requests_in_flight"] == 0

    worker = mounted.children("worker")[0]
    os.kill(worker, signal.SIGKILL)

    def replaced() -> bool:
        """The dead one counts as such (until it is reaped it looks alive), and another tells of itself."""
        found = scrape(port)
        return found["process_exits_total/worker"] == 1 and found["processes/worker"] == 3

    wait_for(replaced, explain=lambda: home.log)
    after = scrape(port)
    assert after["store_requests_total/get"] == found["store_requests_total/get"]
    assert after["read_bytes_total"] == found["read_bytes_total"]
    assert after["disk_cache_capacity_bytes"] == found["disk_cache_capacity_bytes"]
    mounted.umount()
    assert home.left_behind() == []


def settled(mounted: CommandMount, relay: Relay, port: int, listings: int) -> None:
    """Waits until the mount's counters say what the server counted."""

    def agree() -> bool:
        found, counted = scrape(port), relay.requests
        return (
            found["requests_total/open"] == len(FILES)
            and found["store_requests_total/get"] == counted.get("GET", 0)
            and found["store_requests_total/head"] == counted.get("HEAD", 0)
            and counted.get("LIST", 0) == listings
        )

    wait_for(agree, explain=lambda: f"{scrape(port)} {relay.requests}")


def test_stale_objects_and_errors_of_the_store_are_counted(
    home: Home, objects: S3Server, s3_relay: Relay
) -> None:
    socket_path = home.path / "m.sock"
    options = ["--endpoint-url", s3_relay.endpoint_url, "--addressing-style", "path", "--retries", "0"]
    watched = ["--metrics-listen", str(socket_path), "--readahead", "off"]
    mounted = home.mount(*options, *watched, f"s3://{BUCKET}/", env=objects.environment())
    objects.client().put_object(Bucket=BUCKET, Key="00.bin", Body=b"something else")
    try:
        with pytest.raises(OSError, match="Stale"):
            (mounted.path / "00.bin").read_bytes()
    finally:
        objects.client().put_object(Bucket=BUCKET, Key="00.bin", Body=FILES["00.bin"])
    s3_relay.down = True
    with pytest.raises(OSError, match="Input/output"):
        (mounted.path / "01.bin").read_bytes()
    s3_relay.down = False
    counted = mounted.rested_stats()
    assert counted["errors"]["ObjectChanged"] >= 1
    assert counted["errors"]["StoreUnavailable"] >= 1
    assert counted["store"]["get_errors"] >= 2
    mounted.umount()
    assert not socket_path.exists()


def test_a_busy_address_fails_the_mount_and_leaves_nothing(
    home: Home, objects: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("x")
    taken = tmp_path / "taken"
    taken.write_text("not a socket")
    outcome = home.run(
        "mount", "--metrics-listen", str(taken), f"file://{tmp_path}/data/", str(home.directory())
    )
    assert outcome.status == 2
    assert "cannot listen on" in outcome.err
    assert home.left_behind() == []
