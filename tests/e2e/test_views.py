"""Views at mount time: many trees of one listing, each the same wherever it is mounted.

What each filter, split and layout does is tested with the views themselves; here it is that a mount shows it.
Touch it when a mount takes views in another way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers.oss_server import OssServer
from tests.support.buckets import fill_oss, oss_options
from tests.support.command import CommandMount, Home, command_home
from tests.support.mounting import needs_fuse

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

LABELS = ("cat", "dog")
OBJECTS = {f"{label}/{i:03}.jpg": f"{label} {i}".encode() for label in LABELS for i in range(100)}
NOTES = {f"{label}/readme.txt": b"text" for label in LABELS}
SPLIT = ["--split", "train=0.9,val=0.1", "--seed", "7", "--suffix", ".jpg"]


@pytest.fixture
def bucket(oss: OssServer) -> OssServer:
    fill_oss(oss, "pets", {f"t/{key}": data for key, data in {**OBJECTS, **NOTES}.items()})
    return oss


def shown(mount: CommandMount) -> dict[str, bytes]:
    """Every file of a mount with its bytes, and the mount is gone."""
    files = (path for path in sorted(mount.path.rglob("*")) if path.is_file())
    found = {str(path.relative_to(mount.path)): path.read_bytes() for path in files}
    mount.umount()
    return found


def inside(tree: Mapping[str, bytes]) -> dict[str, bytes]:
    """The tree without its first directories."""
    return {path.partition("/")[2]: data for path, data in tree.items()}


def view(home: Home, bucket: OssServer, *words: str) -> dict[str, bytes]:
    return shown(home.mount(*oss_options(bucket), *words, env=bucket.environment()))


def test_many_views_of_one_listing(bucket: OssServer, home: Home) -> None:
    split = view(home, bucket, *SPLIT, "oss://pets/t/")
    bucket.reset_requests()
    assert {path.partition("/")[0] for path in split} == {"train", "val"}
    assert inside(split) == OBJECTS
    shards = [view(home, bucket, "--shard", f"{k}/3", *SPLIT, "oss://pets/t/") for k in range(3)]
    assert sum(map(len, shards)) == len(split)
    assert {path: data for shard in shards for path, data in shard.items()} == split
    assert view(home, bucket, "--exclude", "*.jpg", "oss://pets/t/") == NOTES
    assert view(home, bucket, "--include", "dog/**", "--max-size", "5", "oss://pets/t/") == {
        f"dog/{i:03}.jpg": f"dog {i}".encode() for i in range(10)
    } | {"dog/readme.txt": b"text"}
    assert "LIST" not in bucket.requests


def test_a_split_stays_when_objects_are_added(bucket: OssServer, home: Home) -> None:
    before = view(home, bucket, *SPLIT, "oss://pets/t/")
    fill_oss(bucket, "pets", {f"t/cat/new{i:03}.jpg": b"new" for i in range(100)})
    after = view(home, bucket, "--rebuild", *SPLIT, "oss://pets/t/")
    assert before.items() <= after.items()
    assert len(after) == len(before) + 100


def test_a_saved_view_is_the_same_for_somebody_else(bucket: OssServer, home: Home, tmp_path: Path) -> None:
    options = [*oss_options(bucket), "--label-from", "parent"]
    index = home.path / "pets.ossidx"
    done = home.run("index", "build", *options, "oss://pets/t/", str(index), env=bucket.environment())
    assert done.status == 0, done.err
    saved = home.path / "cats.json"
    words = ["view", "create", str(saved), *SPLIT, "--label", "cat", "--layout", "labels"]
    assert home.run(*words).status == 0
    bucket.reset_requests()
    mine = view(home, bucket, "--view", str(saved), str(index))
    with command_home(tmp_path / "other-host") as other:
        assert view(other, bucket, "--view", str(saved), str(index)) == mine
    assert inside(mine) == {path: data for path, data in OBJECTS.items() if path.startswith("cat/")}
    assert "LIST" not in bucket.requests


def test_several_sources_in_one_mount(bucket: OssServer, home: Home) -> None:
    named = view(home, bucket, "a=oss://pets/t/cat/", "b=oss://pets/t/dog/")
    assert {path.partition("/")[0] for path in named} == {"a", "b"}
    cats = {path.partition("/")[2]: data for path, data in OBJECTS.items() if path.startswith("cat/")}
    assert {path[2:]: data for path, data in named.items() if path.startswith("a/")} == cats | {
        "readme.txt": b"text"
    }
    fill_oss(bucket, "pets", {"u/bird/000.jpg": b"bird"})
    assert view(home, bucket, "oss://pets/t/", "oss://pets/u/") == {
        **OBJECTS, **NOTES, "bird/000.jpg": b"bird",
    }  # fmt: skip
