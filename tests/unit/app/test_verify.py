"""Verification says every difference between index and bucket, and nothing else.

Touch it when verification looks at more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ossmount.app.index_generations import verify
from ossmount.app.indexes import build_index
from ossmount.app.runtime import MountRecord
from ossmount.app.verifying import Difference, Verified
from ossmount.config import Settings, compose
from ossmount.errors import IndexDamaged, IndexFileError
from tests.servers.oss_server import OssServer
from tests.support.index_files import silent

pytestmark = pytest.mark.server

BUCKET = "verified"
NAMES = [f"d{i % 3}/{i:02}" for i in range(30)]


@pytest.fixture
def settings(oss: OssServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in oss.environment().items():
        monkeypatch.setenv(name, value)
    for name in NAMES:
        oss.put(BUCKET, f"p/{name}", name.encode())
    return compose({"endpoint_url": oss.endpoint_url, "region": oss.region})


@pytest.fixture
def index(settings: Settings, tmp_path: Path) -> Path:
    path = tmp_path / "x.ossidx"
    build_index([f"oss://{BUCKET}/p/"], path, settings, silent)
    return path


def run(index: Path, contents: bool = False) -> tuple[Verified, list[Difference]]:
    """How to reach the store stands in the index."""
    found: list[Difference] = []
    done = verify(str(index), Settings(), silent, found.append, contents=contents)
    assert done.differences == len(found)
    return done, found


@pytest.mark.parametrize("contents", [False, True])
def test_no_difference(index: Path, oss: OssServer, contents: bool) -> None:
    oss.reset_requests()
    assert run(index, contents) == (Verified(30, 0, 30 if contents else 0, 0), [])
    assert oss.requests.get("GET", 0) == (30 if contents else 0)


def test_every_difference(index: Path, oss: OssServer) -> None:
    oss.put(BUCKET, "p/d0/00", b"longer than before")
    oss.put(BUCKET, "p/d1/01", b"d1/ab")
    oss.delete(BUCKET, "p/d2/02")
    oss.put(BUCKET, "p/d9/new", b"new")
    oss.put(BUCKET, "p/d0/03", b"d0/03", modified=1.0)
    _, found = run(index)
    assert [(row.what, row.path) for row in found] == [
        ("size", b"d0/00"),
        ("etag", b"d1/01"),
        ("missing", b"d2/02"),
        ("unknown", b"d9/new"),
    ]
    assert found[0].detail == "5 in the index, 18 now"


def test_rotten_content(index: Path, oss: OssServer) -> None:
    """The store lists what it has always listed, and gives other bytes."""
    rot(oss, "p/d0/00")
    assert run(index)[1] == []
    _, found = run(index, contents=True)
    assert [(row.what, row.path) for row in found] == [("content", b"d0/00")]
    assert found[0].detail.startswith("its MD5 is ")
    assert found[0].detail.endswith("no MD5 if SSE-KMS or SSE-C encrypt")


def rot(server: OssServer, key: str) -> None:
    stored = server.state.buckets.get(BUCKET, key)
    object.__setattr__(stored, "data", b"?" * len(stored.data))


def test_views_are_verified_by_what_they_are_made_of(index: Path, oss: OssServer, tmp_path: Path) -> None:
    view = tmp_path / "view.ossidx"
    build_index([str(index)], view, compose({"include": "d0/*"}), silent)
    oss.delete(BUCKET, "p/d2/02")
    assert [(row.what, row.path) for row in run(view)[1]] == [("missing", b"d2/02")]


def test_etags_that_prove_nothing(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(b"a")
    build_index([f"{tmp_path}/source/"], tmp_path / "x.ossidx", Settings(), silent)
    assert run(tmp_path / "x.ossidx", contents=True)[0] == Verified(1, 0, 0, 1)


def test_damaged_index_is_told_first(index: Path, oss: OssServer) -> None:
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    oss.reset_requests()
    with pytest.raises(IndexDamaged):
        run(index)
    assert oss.requests == {}


def test_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="neither an index nor"):
        run(tmp_path)


def test_a_mount_is_not_touched(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be dead, or never answer. What it serves stands in its record."""
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(tmp_path / "runtime"))
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    MountRecord(str(mountpoint), "oss://b/", str(index), os.getpid()).write()
    real = os.stat

    def stat(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        assert str(path) != str(mountpoint)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert run(mountpoint)[1] == []
