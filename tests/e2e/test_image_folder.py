"""Unmodified ImageFolder with eight DataLoader workers reads every kind of source, byte for byte, twice.

Touch it when there is another kind of source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers.oss_server import OssServer
from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.buckets import fill_oss, fill_s3, oss_options
from tests.support.command import CommandMount, Home
from tests.support.counters import rested
from tests.support.images import expected, image_set, write_to
from tests.support.mounting import needs_fuse
from tests.support.trainer import Epoch, Trainer

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server, pytest.mark.torch]

BUCKET = "images"


@dataclass(frozen=True, slots=True)
class Served:
    """A source: the words that mount it, credentials, and how many requests its server has seen."""

    words: Sequence[str]
    environment: Mapping[str, str]
    requests: Callable[[], Mapping[str, int]]
    epoch: Epoch = field(default_factory=expected)


def flat(name: str) -> str:
    """The key where labels are not in the path."""
    return f"img/{name.replace('/', '-')}"


@pytest.fixture(scope="session")
def s3_images(s3_gateway: S3Server) -> S3Server:
    """The gateway with the image set below ``train/``, flat below ``img/``, and manifests of it."""
    fill_s3(s3_gateway, BUCKET, {f"train/{name}": data for name, data in image_set().items()})
    fill_s3(s3_gateway, BUCKET, {flat(name): data for name, data in image_set().items()})
    return s3_gateway


@pytest.fixture(scope="session")
def oss_images(oss_shared: OssServer) -> OssServer:
    """The OSS server with the same, and a manifest in the bucket."""
    fill_oss(oss_shared, BUCKET, {f"train/{name}": data for name, data in image_set().items()})
    oss_shared.put(BUCKET, "manifest.tsv", "".join(f"{name}\n" for name in image_set()).encode())
    return oss_shared


@pytest.fixture
def s3_options(s3_images: S3Server, s3_relay: Relay) -> list[str]:
    return ["--endpoint-url", s3_relay.endpoint_url, "--addressing-style", "path"]


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Served:
    return SOURCES[request.param](request, tmp_path)


def _s3(request: pytest.FixtureRequest, words: Sequence[str]) -> Served:
    options = request.getfixturevalue("s3_options")
    server: S3Server = request.getfixturevalue("s3_images")
    relay: Relay = request.getfixturevalue("s3_relay")
    return Served([*options, *words], server.environment(), lambda: relay.requests)


def _oss(request: pytest.FixtureRequest, words: Sequence[str]) -> Served:
    server: OssServer = request.getfixturevalue("oss_images")
    server.reset_requests()
    return Served([*oss_options(server), *words], server.environment(), lambda: server.requests)


def _s3_prefix(request: pytest.FixtureRequest, folder: Path) -> Served:
    return _s3(request, [f"s3://{BUCKET}/train/"])


def _oss_prefix(request: pytest.FixtureRequest, folder: Path) -> Served:
    return _oss(request, [f"oss://{BUCKET}/train/"])


def _s3_labels(request: pytest.FixtureRequest, folder: Path) -> Served:
    manifest = folder / "labels.tsv"
    rows = (f"{flat(name).removeprefix('img/')}\t{name.partition('/')[0]}\n" for name in image_set())
    manifest.write_text("".join(rows))
    base = f"s3://{BUCKET}/img/"
    served = _s3(request, ["--manifest", str(manifest), "--base-uri", base, "--layout", "labels"])
    samples = {
        f"{label}/{Path(flat(name)).name}": (label, digest)
        for name, (label, digest) in served.epoch.samples.items()
    }
    return replace(served, epoch=Epoch(served.epoch.classes, samples))


def _oss_manifest(request: pytest.FixtureRequest, folder: Path) -> Served:
    base = f"oss://{BUCKET}/train/"
    return _oss(request, ["--manifest", f"oss://{BUCKET}/manifest.tsv", "--base-uri", base])


def _object_list(request: pytest.FixtureRequest, folder: Path) -> Served:
    listed = folder / "objects.txt"
    listed.write_text("".join(f"s3://{BUCKET}/train/{name}\n" for name in image_set()))
    return _s3(request, ["--objects", str(listed)])


def _local(request: pytest.FixtureRequest, folder: Path) -> Served:
    return Served([f"file://{write_to(folder / 'plain')}/"], {}, dict)


SOURCES: dict[str, Callable[[pytest.FixtureRequest, Path], Served]] = {
    "s3-prefix": _s3_prefix,
    "oss-prefix": _oss_prefix,
    "s3-manifest-labels": _s3_labels,
    "oss-manifest-in-bucket": _oss_manifest,
    "object-list": _object_list,
    "file": _local,
}


def test_plain_copy_is_what_is_expected(trainer: Trainer, tmp_path: Path) -> None:
    """The yardstick itself: the same program over an ordinary directory."""
    assert trainer.epoch(write_to(tmp_path / "plain")) == expected()


@pytest.mark.parametrize("served", SOURCES, indirect=True)
def test_two_epochs(served: Served, home: Home, trainer: Trainer) -> None:
    mount = home.mount(*served.words, env=served.environment)
    assert trainer.epoch(mount.path) == served.epoch
    before = settled(mount, served)
    assert before[1]["get_requests"] >= 1
    assert trainer.epoch(mount.path) == served.epoch
    assert settled(mount, served) == before, "the second epoch asked the store"
    mount.umount()
    assert home.left_behind() == []


def settled(mount: CommandMount, served: Served) -> tuple[Any, Any]:
    """Requests counted by the server and by the mount, once they rest."""

    def counted() -> tuple[Any, Any]:
        store = {k: v for k, v in mount.stats().get("store", {}).items() if k.endswith("requests")}
        return dict(served.requests()), store

    return rested(counted)
