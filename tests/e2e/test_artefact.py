"""An index is pushed once; another host mounts it without a single LIST, and verifies it.

Touch it when an artefact is found in another way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers.oss_server import OssServer
from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.buckets import fill_oss, fill_s3, oss_options
from tests.support.command import Home, command_home
from tests.support.mounting import needs_fuse

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

OBJECTS = {f"train/class{i % 5}/{i:03}": b"content of %d" % i for i in range(100)}


def publish(home: Home, options: list[str], bucket: str, env: Mapping[str, str]) -> None:
    """Builds and pushes on one host."""
    local = str(home.path / "made.ossidx")
    for words in (
        ["index", "build", *options, f"{bucket}/train/", local],
        ["index", "push", *options, local, f"{bucket}/train.ossidx"],
    ):
        done = home.run(*words, env=env)
        assert done.status == 0, done.err


def check_mount(home: Home, words: list[str], env: Mapping[str, str]) -> None:
    mount = home.mount(*words, env=env)
    for key, data in OBJECTS.items():
        assert (mount.path / key.removeprefix("train/")).read_bytes() == data
    mount.umount()
    assert home.left_behind() == []
    assert not (home.cache / "pulls").exists()


def test_oss(oss: OssServer, home: Home, tmp_path: Path) -> None:
    fill_oss(oss, "pub", OBJECTS)
    options, env = oss_options(oss), oss.environment()
    publish(home, options, "oss://pub", env)
    oss.reset_requests()
    with command_home(tmp_path / "other-host") as other:
        check_mount(other, [*options, "oss://pub/train.ossidx"], env)
        assert "LIST" not in oss.requests
        assert oss.requests["GET"] > 0
        oss.reset_requests()
        check_mount(other, [*options, "oss://pub/train.ossidx"], env)
        assert oss.requests.get("GET", 0) <= 2, "the artefact was pulled again"


def test_s3_below_a_name(s3_gateway: S3Server, s3_relay: Relay, home: Home) -> None:
    fill_s3(s3_gateway, "published", OBJECTS)
    env = s3_gateway.environment()
    options = ["--endpoint-url", s3_relay.endpoint_url, "--addressing-style", "path"]
    publish(home, options, "s3://published", env)
    s3_relay.counts.clear()
    mount = home.mount(*options, "all=s3://published/train.ossidx", env=env)
    assert (mount.path / "all/class0/000").read_bytes() == b"content of 0"
    assert "LIST" not in s3_relay.requests
    mount.umount()


def test_pull_and_verify(oss: OssServer, home: Home) -> None:
    fill_oss(oss, "pub", OBJECTS)
    options, env = oss_options(oss), oss.environment()
    publish(home, options, "oss://pub", env)
    pulled = home.path / "pulled.ossidx"
    done = home.run("index", "pull", *options, "oss://pub/train.ossidx", str(pulled), env=env)
    assert (done.status, pulled.read_bytes()) == (0, (home.path / "made.ossidx").read_bytes())
    done = home.run("verify", "--contents", str(pulled), env=env)
    assert (done.status, done.out) == (0, "100 files, 100 contents read: 0 differences\n")
    oss.delete("pub", "train/class0/000")
    done = home.run("verify", str(pulled), env=env)
    assert done.status == 1
    assert done.out.splitlines()[0] == "missing\tclass0/000\tin the index, not in the source"


def test_what_a_mount_serves_is_verified_not_what_stands_at_its_path(oss: OssServer, home: Home) -> None:
    fill_oss(oss, "pub", OBJECTS)
    options, env = oss_options(oss), oss.environment()
    path = home.path / "train.ossidx"
    mount = home.mount(*options, "--index", str(path), "oss://pub/train/", env=env)
    oss.delete("pub", "train/class0/000")
    assert home.run("index", "refresh", str(path), env=env).status == 0
    assert home.run("verify", str(path), env=env).status == 0
    done = home.run("verify", str(mount.path), env=env)
    assert (done.status, done.out.splitlines()[0]) == (
        1,
        "missing\tclass0/000\tin the index, not in the source",
    )
    path.unlink()
    assert home.run("verify", str(mount.path), env=env).status == 1, "nor does it need that path"
    assert home.run("refresh", str(mount.path)).status == 0
    assert home.run("verify", str(mount.path), env=env).status == 0
    mount.umount()


def test_views_of_mounts_are_refreshed(oss: OssServer, home: Home) -> None:
    """A view is another index: both go over to what the bucket holds."""
    fill_oss(oss, "pub", OBJECTS)
    env = oss.environment()
    mount = home.mount(*oss_options(oss), "--include", "class0/*", "oss://pub/train/", env=env)
    fill_oss(oss, "pub", {"train/class0/new": b"new", "train/class1/new": b"new"})
    done = home.run("refresh", str(mount.path))
    assert (done.status, "1 added" in done.out) == (0, True), done.err + home.log
    assert (mount.path / "class0" / "new").read_bytes() == b"new"
    assert not (mount.path / "class1").exists()
    done = home.run("verify", str(mount.path), env=env)
    assert done.status == 0, done.out + done.err
    mount.umount()
