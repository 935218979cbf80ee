"""Stores as they are met in practice, behind TLS, with an authority of one's own.

Touch it when a client joins that has its own way to be told of authorities.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.servers.http import RangeServer
from tests.servers.oss_server import OssServer
from tests.servers.s3 import S3Server
from tests.servers.tls import Authority
from tests.support.buckets import fill_oss, fill_s3, oss_options
from tests.support.command import Home
from tests.support.mounting import needs_fuse

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "behind-tls"
FILES = {"small": b"a few bytes", "large": random.Random(3).randbytes(24 << 20)}


@dataclass(frozen=True, slots=True)
class Source:
    """The words that mount FILES, and the variables that this takes but for that of the authority."""

    words: Sequence[str]
    variable: str
    environment: Mapping[str, str]


Front = Callable[[str], str]


def _s3(request: pytest.FixtureRequest, front: Front, folder: Path) -> Source:
    server: S3Server = request.getfixturevalue("s3_gateway")
    fill_s3(server, BUCKET, FILES)
    words = ["--endpoint-url", front(server.endpoint_url), f"s3://{BUCKET}/"]
    return Source(words, "AWS_CA_BUNDLE", server.environment())


def _oss(request: pytest.FixtureRequest, front: Front, folder: Path) -> Source:
    server: OssServer = request.getfixturevalue("oss")
    fill_oss(server, BUCKET, FILES)
    words = oss_options(replace(server, endpoint_url=front(server.endpoint_url)))
    return Source([*words, f"oss://{BUCKET}/"], "SSL_CERT_FILE", server.environment())


def _http(request: pytest.FixtureRequest, front: Front, folder: Path) -> Source:
    server: RangeServer = request.getfixturevalue("http_ranges")
    for name, data in FILES.items():
        server.put(f"/data/{name}", data)
    url, listed = front(server.url), folder / "objects.txt"
    listed.write_text("".join(f"{url}/data/{name}\n" for name in FILES))
    return Source(["--objects", str(listed)], "SSL_CERT_FILE", {})


SOURCES = {"s3": _s3, "oss": _oss, "http": _http}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, behind_tls: Front, tmp_path: Path) -> Source:
    return SOURCES[request.param](request, behind_tls, tmp_path)


def test_a_mount_reads_what_is_there(source: Source, home: Home, tls_authority: Authority) -> None:
    trusting = {**source.environment, source.variable: str(tls_authority.file)}
    mount = home.mount(*source.words, env=trusting)
    assert {name: (mount.path / name).read_bytes() for name in FILES} == FILES
    counted = Counter(mount.rested_stats()["store"])
    assert counted["get_bytes"] >= sum(map(len, FILES.values()))
    assert counted["get_errors"] == 0, "what one client is refused another asks for again"
    mount.umount()


def test_a_stranger_is_not_mounted(source: Source, home: Home, strange_authority: Authority) -> None:
    distrusting = {**source.environment, source.variable: str(strange_authority.file)}
    outcome = home.run("mount", "--retries", "0", *source.words, str(home.directory()), env=distrusting)
    assert outcome.status != 0
    assert "certificate" in outcome.err
