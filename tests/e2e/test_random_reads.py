"""Every way to read, at odd offsets, of files of every size, gives the source's bytes.

Touch it when a size matters that is not among these.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers.oss_server import OssServer
from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.buckets import fill_oss, fill_s3, oss_options
from tests.support.command import ROOT, Home
from tests.support.mounting import needs_fuse

pytestmark = [needs_fuse, pytest.mark.fuse]

PERIOD = 1_048_583
"""A prime above 1 MiB: bytes repeat with it, so a block in a wrong place is never right by chance."""

SIZES = {"empty": 0, "one": 1, "odd": 4095, "mib": 1 << 20}
BIG = 300 << 20
MIDDLING = 24 << 20
"""Over several windows and parts, and small enough for a test server's memory."""


def write_files(folder: Path, sizes: Mapping[str, int]) -> Path:
    """Files of random bytes that repeat with PERIOD."""
    folder.mkdir()
    pattern = random.Random(3).randbytes(PERIOD)
    for name, size in sizes.items():
        with (folder / name).open("wb") as file:
            for _ in range(size // PERIOD):
                file.write(pattern)
            file.write(pattern[: size % PERIOD])
    return folder


def compare(source: Path, mounted: Path, reads: int, home: Home) -> None:
    """Runs the comparing program."""
    command = [sys.executable, "-m", "tests.support.random_reads", str(source), str(mounted), str(reads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout == f"{reads} reads equal\n", done.stdout + done.stderr + home.log


def test_local_files_up_to_300_mib(home: Home, tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", {**SIZES, "big": BIG})
    mount = home.mount(f"file://{source}/")
    compare(source, mount.path, 1000, home)
    mount.umount()


@pytest.mark.server
@pytest.mark.parametrize("options", [[], ["--readahead", "off", "--no-push", "--cache-size", "0"]])
def test_oss_objects(options: list[str], home: Home, tmp_path: Path, oss_shared: OssServer) -> None:
    source = write_files(tmp_path / "source", {**SIZES, "middling": MIDDLING})
    fill_oss(oss_shared, "random", {path.name: path.read_bytes() for path in source.iterdir()})
    mount = home.mount(*oss_options(oss_shared), *options, "oss://random/", env=oss_shared.environment())
    compare(source, mount.path, 400, home)
    mount.umount()


@pytest.mark.server
def test_s3_objects(home: Home, tmp_path: Path, s3_gateway: S3Server, s3_relay: Relay) -> None:
    source = write_files(tmp_path / "source", {**SIZES, "middling": MIDDLING})
    fill_s3(s3_gateway, "random", {path.name: path.read_bytes() for path in source.iterdir()})
    mount = home.mount("--endpoint-url", s3_relay.endpoint_url, "s3://random/", env=s3_gateway.environment())
    compare(source, mount.path, 400, home)
    mount.umount()
    assert home.left_behind() == []
