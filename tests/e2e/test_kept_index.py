"""A mount from an index that is there asks for no listing and no HEAD, and says which index it took.

Touch it when the rule which index a mount uses changes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.servers.oss_server import OssServer
from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.buckets import fill_s3, oss_options
from tests.support.command import Home
from tests.support.mounting import needs_fuse

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "kept-index"


@pytest.fixture
def source(s3_gateway: S3Server, s3_relay: Relay, home: Home) -> list[str]:
    """Words that mount a prefix with two objects."""
    fill_s3(s3_gateway, BUCKET, {key: key.encode() for key in ("p/a/1", "p/b/2")})
    home.environment.update(s3_gateway.environment())
    return ["--endpoint-url", s3_relay.endpoint_url, f"s3://{BUCKET}/p/"]


def test_named_index(source: list[str], s3_relay: Relay, home: Home, tmp_path: Path) -> None:
    index = str(tmp_path / "named.ossidx")
    built = home.run("index", "build", *source, index)
    assert built.status == 0, built.err
    s3_relay.counts.clear()
    mount = home.mount("--endpoint-url", s3_relay.endpoint_url, "--index", index)
    assert re.fullmatch(rf"ossmount: index {re.escape(index)} \(2 files, \d+ s old\)\n", mount.outcome.err)
    assert (mount.path / "a" / "1").read_bytes() == b"p/a/1"
    assert sorted(path.name for path in mount.path.iterdir()) == ["a", "b"]
    assert set(s3_relay.requests) == {"GET"}, s3_relay.lines
    mount.umount()


def test_second_mount_takes_the_index_that_the_first_kept(
    source: list[str], s3_relay: Relay, home: Home
) -> None:
    first = home.mount(*source)
    assert "built now" in first.outcome.err
    assert s3_relay.requests["LIST"] >= 1
    first.umount()
    s3_relay.counts.clear()
    second = home.mount(*source)
    (kept,) = (home.cache / "indexes").iterdir()
    assert re.fullmatch(rf"ossmount: index {kept} \(2 files, \d+ s old\)\n", second.outcome.err)
    assert (second.path / "b" / "2").read_bytes() == b"p/b/2"
    assert set(s3_relay.requests) <= {"GET"}, s3_relay.lines
    second.umount()


def test_rebuild_lists_anew(source: list[str], s3_relay: Relay, s3_gateway: S3Server, home: Home) -> None:
    home.mount(*source).umount()
    s3_gateway.client().put_object(Bucket=BUCKET, Key="p/c/3", Body=b"new")
    try:
        mount = home.mount("--rebuild", *source)
        assert "built now" in mount.outcome.err
        assert (mount.path / "c" / "3").read_bytes() == b"new"
        mount.umount()
    finally:
        s3_gateway.client().delete_object(Bucket=BUCKET, Key="p/c/3")


def test_other_options_make_another_index(home: Home, tmp_path: Path) -> None:
    (tmp_path / "source" / "x").mkdir(parents=True)
    (tmp_path / "source" / "x" / "f").write_bytes(b"1")
    source = f"file://{tmp_path}/source/"
    home.mount(source).umount()
    home.mount("--on-bad-key", "skip", source).umount()
    assert len(list((home.cache / "indexes").iterdir())) == 2


def test_edited_manifest_is_read_again(home: Home, oss: OssServer, tmp_path: Path) -> None:
    manifest = tmp_path / "list.tsv"
    oss.put(BUCKET, "one", b"1")
    oss.put(BUCKET, "two", b"22")
    words = [*oss_options(oss), "--manifest", str(manifest), "--base-uri", f"oss://{BUCKET}/"]
    manifest.write_text("one\n")
    home.mount(*words, env=oss.environment()).umount()
    manifest.write_text("one\ntwo\n")
    mount = home.mount(*words, env=oss.environment())
    assert sorted(path.name for path in mount.path.iterdir()) == ["one", "two"]
    mount.umount()


def test_manifest_with_sizes_and_etags_asks_nothing(home: Home, oss: OssServer, tmp_path: Path) -> None:
    etag = oss.put(BUCKET, "one", b"1234")
    manifest = tmp_path / "table.tsv"
    manifest.write_text(f"key\tsize\tetag\none\t4\t{etag}\n")
    words = [*oss_options(oss), "--manifest", str(manifest), "--base-uri", f"oss://{BUCKET}/"]
    oss.reset_requests()
    mount = home.mount(*words, env=oss.environment())
    assert (mount.path / "one").read_bytes() == b"1234"
    assert set(oss.requests) == {"GET"}
    mount.umount()
