"""A known order, given over the control socket: fetched exactly so, ahead of the reader, into the page cache.

Also what the kernel offers for one file, ``posix_fadvise(WILLNEED)``.
"""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ossmount.app.control import ControlClient
from ossmount.errors import SourceError
from ossmount.readahead.arrivals import PATIENCE
from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.command import CommandMount, Home
from tests.support.mounting import needs_fuse, wait_for
from tests.support.residency import locked_in_memory, resident

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "orders"
FILES = {f"{label}/{i:03}.bin": random.Random(i).randbytes(5000 + i) for label in "ab" for i in range(30)}
BIG = random.Random(7).randbytes(6 << 20)
STEP = 1 << 20
"""``--kernel-read-ahead`` by default, which root may set."""


@pytest.fixture(scope="module")
def objects(s3_gateway: S3Server) -> S3Server:
    client = s3_gateway.client()
    client.create_bucket(Bucket=BUCKET)
    for key, data in FILES.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=data)
    client.put_object(Bucket=BUCKET, Key="z/big.bin", Body=BIG)
    return s3_gateway


@pytest.fixture
def mounted(
    home: Home,
    objects: S3Server,
    s3_relay: Relay,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> CommandMount:
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(home.runtime))
    options = ["--endpoint-url", s3_relay.endpoint_url, "--addressing-style", "path"]
    words = getattr(request, "param", [])
    return home.mount(*options, *words, f"s3://{BUCKET}/", env=objects.environment())


def asked(relay: Relay) -> list[str]:
    """Keys in the order in which the store was asked for them."""
    return [
        line.partition(f"/{BUCKET}/")[2]
        for line in relay.lines
        if f"GET /{BUCKET}/" in line and "?" not in line
    ]


@pytest.mark.parametrize("mounted", [["--max-requests", "1", "--prefetchers", "1"]], indirect=True)
def test_files_come_in_exactly_that_order_before_anybody_reads(
    mounted: CommandMount, s3_relay: Relay
) -> None:
    """With one request at a time the store sees the order itself."""
    order = random.Random(5).sample(sorted(FILES), 40)
    with ControlClient(mounted.path) as client:
        assert client.order(order) == 40
        wait_for(lambda: len(asked(s3_relay)) >= 40, explain=lambda: mounted.home.log)
    # A slow request is hedged: asked for twice.
    assert list(dict.fromkeys(asked(s3_relay))) == order
    mounted.umount()


def test_ordered_files_are_in_the_page_cache_when_they_are_opened(
    mounted: CommandMount, s3_relay: Relay
) -> None:
    order = random.Random(6).sample(sorted(FILES), len(FILES))
    for key in order:
        (mounted.path / key).stat()  # the kernel takes pages of inodes that it knows
    with ControlClient(mounted.path) as client:
        client.order([str(mounted.path / key) for key in order])
        wait_for(lambda: client.stats()["counters"]["pages"]["stored"] >= len(order))
    before, evicted = len(asked(s3_relay)), 0
    for key in order:
        with (mounted.path / key).open("rb", buffering=0) as file:
            evicted += not resident(file.fileno(), len(FILES[key]))
            assert file.read() == FILES[key]
    assert len(asked(s3_relay)) == before
    counters = mounted.rested_stats()["fs"]
    assert counters["opens"] == len(order)
    # A machine may take pages back at any time (DAMON's page-out takes even fresh ones).
    assert evicted <= len(order) // 4
    assert counters["reads"] <= evicted
    mounted.umount()


def test_files_that_nobody_has_listed_are_introduced_and_pushed(
    mounted: CommandMount, s3_relay: Relay
) -> None:
    order = random.Random(7).sample(sorted(FILES), len(FILES))
    s3_relay.delay = PATIENCE / 10  # a listing through the mount takes a hundredth of it
    with ControlClient(mounted.path) as client:
        client.order(order)
        wait_for(lambda: client.stats()["counters"]["pages"]["stored"] >= len(order))
        assert client.stats()["counters"]["prefetcher"]["introduced"] >= len("ab")
    assert [(mounted.path / key).read_bytes() for key in order] == [FILES[key] for key in order]
    counters = mounted.rested_stats()["fs"]
    assert counters["opens"] == len(order)
    assert counters["lookups"] <= len("ab") + len(order) // 4
    assert counters["reads"] <= len(order) // 4, "the machine may take back some pages at any time"
    mounted.umount()


def test_a_file_in_the_air_is_waited_for_and_not_asked_for_again(
    mounted: CommandMount, s3_relay: Relay
) -> None:
    order = random.Random(8).sample(sorted(FILES), len(FILES))
    for key in order:
        (mounted.path / key).stat()
    s3_relay.delay = PATIENCE / 3
    with ControlClient(mounted.path) as client:
        client.order([str(mounted.path / key) for key in order])
        wait_for(lambda: len(asked(s3_relay)) > 0)
        with ThreadPoolExecutor(8) as programs:
            contents = list(programs.map(lambda key: (mounted.path / key).read_bytes(), order))
        assert contents == [FILES[key] for key in order]
    counters = mounted.rested_stats()
    assert counters["fs"]["opens"] == len(order)
    assert counters["arrivals"]["waits"] > 0
    # A slow request may be hedged. The machine may take back a page, or be so slow that somebody waits in
    # vain: each such READ may ask again, and nothing else does.
    again = len(asked(s3_relay)) - len(order) - counters["fetcher"]["hedges"]
    assert 0 <= again <= counters["fs"]["reads"] <= len(order) // 4
    mounted.umount()


def test_a_new_order_replaces_the_old_and_withdrawing_ends_it(mounted: CommandMount, s3_relay: Relay) -> None:
    inos = [(mounted.path / key).stat().st_ino for key in sorted(FILES)]
    s3_relay.delay = 0.05
    with ControlClient(mounted.path) as client:
        client.order(inos)
        client.order(inos[-5:])
        client.withdraw()
        with pytest.raises(SourceError, match="no 'nope' in this mount"):
            client.order(["nope"])
        with pytest.raises(SourceError, match="is a directory"):
            client.order(["a"])
    s3_relay.delay = 0
    wait_for(lambda: mounted.stats()["fetcher"]["in_flight"] == 0)
    for key in sorted(FILES):
        assert (mounted.path / key).read_bytes() == FILES[key]
    mounted.umount()


def will_need(fd: int) -> bool:
    for offset in range(0, len(BIG), STEP):
        os.posix_fadvise(fd, offset, STEP, os.POSIX_FADV_WILLNEED)
    return False


def test_fadvise_willneed_fetches_a_large_file_ahead_and_does_not_wait_for_it(
    mounted: CommandMount, s3_relay: Relay
) -> None:
    """One call covers as much as the kernel reads ahead at once (1 MiB), whatever length it is given."""
    s3_relay.delay = 0.2
    fd = os.open(mounted.path / "z/big.bin", os.O_RDONLY)
    try:
        began = time.monotonic()
        will_need(fd)
        seconds = time.monotonic() - began
        # What the machine takes back meanwhile is needed again.
        wait_for(lambda: resident(fd, len(BIG)) or will_need(fd))
        with locked_in_memory([mounted.path / "z/big.bin"]):
            requests = mounted.rested_stats()["fs"]["reads"]
            assert os.pread(fd, len(BIG), 0) == BIG
            assert mounted.rested_stats()["fs"]["reads"] == requests, "it was not in the page cache"
    finally:
        os.close(fd)
    assert seconds < s3_relay.delay, f"WILLNEED waited {seconds:.2f} s: as long as a request to the store"
    mounted.umount()
