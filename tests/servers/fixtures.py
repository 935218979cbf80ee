"""Fixtures of the real servers, one of each for a whole run. Touch it when a server is added."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.http import RangeServer, range_server
from tests.servers.s3 import S3Server, juicefs_gateway, moto_server


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
