"""Keys that are no file names: nothing is lost, and what was renamed is reported.

Touch it when a store is met whose keys are odd in yet another way.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers.oss_server import OssServer
from tests.servers.s3 import S3Server
from tests.support.buckets import fill_oss, fill_s3, oss_options
from tests.support.command import CommandMount, Home
from tests.support.mounting import needs_fuse

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "odd-keys"
LONG_NAME = "n" * 256
LONG_KEY = "/".join(["k" * 99] * 10)
NFC = unicodedata.normalize("NFC", "caf\u00e9/\u00c5.bin")
NFD = unicodedata.normalize("NFD", NFC)
PLAIN = ["a/b", "plain/file", "with space/in name.bin", " lead and trail ", NFC, NFD, LONG_KEY + "k"]
RENAMED = ["a", "a//b", "./x", "../x", LONG_NAME, "%2E", "x/../y", "/lead", "tail//"]
WITH_NEWLINE = ["new\nline", "tab\there"]
MARKER = "x/"


def contents(keys: list[str]) -> dict[str, bytes]:
    """Bytes of each key, all different."""
    return {key: f"bytes of {key!r}".encode() * 3 for key in keys}


def keys_by_path(mount: CommandMount) -> dict[str, str]:
    """The true key of every file of the tree."""
    top = os.fsencode(mount.path)
    return {
        os.fsdecode(os.path.relpath(path, top)): os.getxattr(path, "user.ossmount.key").decode()
        for path in _files(top)
    }


def _files(top: bytes) -> Iterator[bytes]:
    for folder, _, names in os.walk(top, onerror=_raise):
        yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118 - bytes paths


def _raise(error: OSError) -> None:
    raise error


def reported(home: Home) -> list[dict[str, str]]:
    """What ``index report`` says of the one kept index."""
    (index,) = (home.cache / "indexes").glob("*.ossidx")
    outcome = home.run("index", "report", "--json", str(index))
    assert outcome.status == 0, outcome.err
    return list(json.loads(outcome.out))


def check(home: Home, mount: CommandMount, stored: Mapping[str, bytes]) -> None:
    """Every object is in the tree once with its bytes; what has another name than its key is reported."""
    keys = keys_by_path(mount)
    assert sorted(keys.values()) == sorted(stored)
    assert {key: (mount.path / path).read_bytes() for path, key in keys.items()} == stored
    renamed = {path: key for path, key in keys.items() if path != key}
    assert sorted(renamed.values()) == sorted(RENAMED)
    rows = reported(home)
    assert all(row["what"] == "rename" for row in rows)
    files = {row["name"]: row["key"] for row in rows if not row["name"].endswith("/")}
    folders = tuple(row["name"] for row in rows if row["name"].endswith("/"))
    for path, key in renamed.items():
        assert files.get(path, "").endswith(f"/{key}") or path.startswith(folders), path
    assert not set(files) - set(renamed), "reported without having been renamed"
    assert not [folder for folder in folders if not any(path.startswith(folder) for path in renamed)]


def test_oss_prefix(home: Home, oss: OssServer) -> None:
    stored = contents([*PLAIN, *WITH_NEWLINE, *RENAMED])
    fill_oss(oss, BUCKET, {**stored, MARKER: b""})
    mount = home.mount(*oss_options(oss), f"oss://{BUCKET}/", env=oss.environment())
    check(home, mount, stored)
    assert (mount.path / "x").is_dir()
    assert (mount.path / "a" / "b").read_bytes() == stored["a/b"]
    mount.umount()


def test_s3_manifest(home: Home, s3_moto: S3Server, tmp_path: Path) -> None:
    stored = contents([*PLAIN, *RENAMED])
    fill_s3(s3_moto, BUCKET, stored)
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("".join(f"{key}\tlabel\n" for key in stored))
    words = ["--endpoint-url", s3_moto.endpoint_url, "--manifest", str(manifest)]
    mount = home.mount(*words, "--base-uri", f"s3://{BUCKET}/", env=s3_moto.environment())
    check(home, mount, stored)
    mount.umount()
    assert home.left_behind() == []
