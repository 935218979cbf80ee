"""Fixtures of the real servers, one of each for a whole run. Touch it when a server is added."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.servers.http import RangeServer, range_server
from tests.servers.oss_server import OssServer, oss_server
from tests.servers.s3 import S3Server, juicefs_gateway, moto_server
from tests.servers.tls import Authority, make_authority, tls_front


@pytest.fixture(scope="session")
def s3_gateway() -> Iterator[S3Server]:
    """S3 with signatures checked (a file system below: not every key fits)."""
    with juicefs_gateway() as server:
        yield server


@pytest.fixture(scope="session")
def s3_moto() -> Iterator[S3Server]:
    """S3 that takes every key (no signature is checked)."""
    with moto_server() as server:
        yield server


@pytest.fixture
def http_ranges() -> Iterator[RangeServer]:
    """An empty HTTP server with ranges and ETags."""
    with range_server() as server:
        yield server


@pytest.fixture
def oss() -> Iterator[OssServer]:
    """A fresh, empty OSS server in threads of this process, whose knobs a test may turn."""
    with oss_server() as server:
        yield server


@pytest.fixture(scope="session")
def oss_shared() -> Iterator[OssServer]:
    """One OSS server for many tests, each with a bucket or prefix of its own; its knobs stay as they are."""
    with oss_server() as server:
        yield server


@pytest.fixture(scope="session")
def tls_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the servers behind ``behind_tls`` have their certificate from."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def strange_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another one, from whom no server has a certificate."""
    return make_authority(tmp_path_factory.mktemp("strange-authority"))


@pytest.fixture
def behind_tls(tls_authority: Authority) -> Iterator[Callable[[str], str]]:
    """``behind_tls(endpoint_url)`` is the https URL of a front of that plain server, for this test."""
    with contextlib.ExitStack() as stack:
        yield lambda endpoint_url: stack.enter_context(tls_front(tls_authority, endpoint_url))
