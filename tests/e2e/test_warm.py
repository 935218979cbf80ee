"""``ossmount warm`` on a real mount of a real S3 server: what is fetched, skipped, withdrawn and reported."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.command import CommandMount, Home
from tests.support.mounting import needs_fuse, wait_for

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "warmth"
SMALL = {
    f"{label}/{i:03}.bin": random.Random(i).randbytes(3000 + i) for label in ("cat", "dog") for i in range(40)
}
BIG = {"shards/big.bin": random.Random(7).randbytes((9 << 20) + 5)}
OBJECTS = SMALL | BIG
PARTS = 2
"""GETs of the big object: parts of 8 MiB."""


@pytest.fixture(scope="module")
def objects(s3_gateway: S3Server) -> S3Server:
    client = s3_gateway.client()
    client.create_bucket(Bucket=BUCKET)
    for key, data in OBJECTS.items():
        client.put_object(Bucket=BUCKET, Key=f"data/{key}", Body=data)
    return s3_gateway


def mount(home: Home, server: S3Server, relay: Relay, *words: str) -> CommandMount:
    options = ["--endpoint-url", relay.endpoint_url, "--addressing-style", "path"]
    source = [] if "--manifest" in words else [f"s3://{BUCKET}/data/"]
    return home.mount(*options, *words, *source, env=server.environment())


def warm(mounted: CommandMount, *words: str) -> dict[str, Any]:
    outcome = mounted.home.run("warm", "--json", str(mounted.path), *words)
    assert outcome.status == 0, outcome.err + mounted.home.log
    return dict(json.loads(outcome.out))


def gets(relay: Relay) -> int:
    return relay.requests.get("GET", 0)


def wanted_gets(mounted: CommandMount, relay: Relay) -> int:
    """GETs but for the second ones that were sent because the first took long."""
    return gets(relay) - int(mounted.rested_stats()["fetcher"]["hedges"])


def size_of(keys: Sequence[str]) -> int:
    return sum(len(OBJECTS[key]) for key in keys)


def test_all_is_fetched_once_and_then_read_without_the_store(
    home: Home, objects: S3Server, s3_relay: Relay
) -> None:
    mounted = mount(home, objects, s3_relay)
    first = warm(mounted)
    assert (first["files"], first["bytes"]) == (len(OBJECTS), size_of(list(OBJECTS)))
    assert first["present_bytes"] == first["failed_files"] == first["declined_bytes"] == 0
    assert wanted_gets(mounted, s3_relay) == len(SMALL) + PARTS
    second = warm(mounted)
    assert second["present_bytes"] == second["bytes"] == first["bytes"]
    assert second["fetched_bytes"] == 0
    assert wanted_gets(mounted, s3_relay) == len(SMALL) + PARTS
    for key, data in OBJECTS.items():
        assert (mounted.path / key).read_bytes() == data
    assert wanted_gets(mounted, s3_relay) == len(SMALL) + PARTS
    mounted.umount()
    assert home.left_behind() == []


def test_a_new_mount_finds_what_the_old_one_warmed(home: Home, objects: S3Server, s3_relay: Relay) -> None:
    mounted = mount(home, objects, s3_relay)
    warm(mounted, "cat")
    mounted.umount()
    again = mount(home, objects, s3_relay)
    assert warm(again, "cat")["fetched_bytes"] == 0
    again.umount()


def test_paths_bytes_and_repeated_names(home: Home, objects: S3Server, s3_relay: Relay) -> None:
    mounted = mount(home, objects, s3_relay)
    cats = [key for key in SMALL if key.startswith("cat/")]
    done = warm(mounted, "cat", str(mounted.path / "cat" / "003.bin"), "dog/001.bin", "./dog//001.bin")
    assert done["files"] == len(cats) + 1
    assert done["bytes"] == size_of(cats) + len(OBJECTS["dog/001.bin"])
    limited = warm(mounted, "--bytes", "9000", "dog")
    assert (limited["files"], limited["bytes"]) == (2, 3000 + 3001)
    mounted.umount()


def test_a_label_is_found_through_the_index(
    home: Home, objects: S3Server, s3_relay: Relay, tmp_path: Path
) -> None:
    manifest = tmp_path / "labels.tsv"
    manifest.write_text("".join(f"{key}\t{'even' if i % 2 == 0 else 'odd'}\n" for i, key in enumerate(SMALL)))
    mounted = mount(
        home, objects, s3_relay, "--manifest", str(manifest), "--base-uri", f"s3://{BUCKET}/data/"
    )
    done = warm(mounted, "--label", "odd")
    assert done["files"] == len(SMALL) // 2
    assert wanted_gets(mounted, s3_relay) == len(SMALL) // 2
    mounted.umount()


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["nothing/here"], 3, "no 'nothing/here' in this mount"),
        (["/etc/passwd"], 3, "'/etc/passwd' is not below"),
        (["--label", "none"], 3, "nothing to warm"),
        (["--bytes", "1"], 3, "nothing to warm"),
        (["--bytes", "many"], 2, "--bytes: 'many' is not a size"),
    ],
)
def test_mistakes(
    home: Home, objects: S3Server, s3_relay: Relay, words: list[str], status: int, complaint: str
) -> None:
    mounted = mount(home, objects, s3_relay)
    outcome = home.run("warm", str(mounted.path), *words)
    assert (outcome.status, len(outcome.error_lines)) == (status, 1)
    assert complaint in outcome.err
    mounted.umount()


def test_no_mount_there(home: Home) -> None:
    outcome = home.run("warm", str(home.directory()))
    assert outcome.status == 6
    assert "no ossmount mount of this user" in outcome.err


def test_without_cache_or_prefetchers_it_is_said(home: Home, objects: S3Server, s3_relay: Relay) -> None:
    for words, complaint in (
        (["--cache-size", "0"], "no disk cache to warm"),
        (["--readahead", "off"], "no prefetchers"),
    ):
        mounted = mount(home, objects, s3_relay, *words)
        outcome = home.run("warm", str(mounted.path))
        assert outcome.status == 6
        assert complaint in outcome.err
        mounted.umount()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_run_withdraws_its_wishes_and_the_next_goes_on(
    home: Home, objects: S3Server, s3_relay: Relay, signum: signal.Signals
) -> None:
    """SIGKILL too: the mount notices that the client is gone."""
    mounted = mount(home, objects, s3_relay, "--max-requests", "4")
    s3_relay.delay = 0.1
    process = home.start("warm", str(mounted.path))
    wait_for(lambda: gets(s3_relay) >= 8, explain=lambda: home.log)
    os.kill(process.pid, signum)
    _, err = process.communicate(timeout=20)
    assert process.returncode == (130 if signum == signal.SIGINT else -signum), err
    s3_relay.delay = 0
    wait_for(lambda: mounted.stats()["fetcher"]["in_flight"] == 0)
    stopped = gets(s3_relay)
    assert stopped < len(OBJECTS) // 2
    done = warm(mounted)
    assert 0 < done["present_bytes"] < done["bytes"]
    assert wanted_gets(mounted, s3_relay) == len(SMALL) + PARTS
    mounted.umount()


def test_a_killed_prefetcher_costs_nothing_but_time(home: Home, objects: S3Server, s3_relay: Relay) -> None:
    mounted = mount(home, objects, s3_relay, "--max-requests", "4")
    s3_relay.delay = 0.02
    process = home.start("warm", "--json", str(mounted.path))
    wait_for(lambda: gets(s3_relay) >= 10, explain=lambda: home.log)
    prefetcher, *_ = mounted.children("prefetcher")
    os.kill(prefetcher, signal.SIGKILL)
    out, err = process.communicate(timeout=40)
    assert process.returncode == 0, err + home.log
    assert json.loads(out)["files"] == len(OBJECTS)
    s3_relay.delay = 0
    assert warm(mounted)["fetched_bytes"] == 0
    mounted.umount()


def test_files_that_cannot_be_fetched_are_reported(home: Home, objects: S3Server, s3_relay: Relay) -> None:
    mounted = mount(home, objects, s3_relay, "--retries", "0")
    s3_relay.down = True
    outcome = home.run("warm", str(mounted.path), "cat")
    assert outcome.status == 5
    assert "40 of 40 files could not be fetched" in outcome.err
    s3_relay.down = False
    assert warm(mounted, "cat")["failed_files"] == 0
    mounted.umount()


def test_a_cache_that_is_too_small_is_reported(home: Home, objects: S3Server, s3_relay: Relay) -> None:
    mounted = mount(home, objects, s3_relay, "--cache-size", "8M")
    outcome = home.run("warm", str(mounted.path))
    assert outcome.status == 7
    assert "the cache did not keep" in outcome.err
    mounted.umount()


def test_several_prefetchers_share_the_work(home: Home, objects: S3Server, s3_relay: Relay) -> None:
    mounted = mount(home, objects, s3_relay, "--prefetchers", "3")
    assert warm(mounted)["files"] == len(OBJECTS)
    assert wanted_gets(mounted, s3_relay) == len(SMALL) + PARTS
    mounted.umount()
