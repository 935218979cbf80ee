"""Published indexes: what arrives is what was pushed, or nothing; parts that are there are not sent again.

Touch it when the artefact's form changes, together with docs/index-artefact.md.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from ossmount.app import artefacts, pruning
from ossmount.app.artefacts import Pointer, is_artefact, pull_index, pulled_index, push_index
from ossmount.app.generations import refresh_index
from ossmount.app.pruning import PUSHED_SECONDS, UNUSED_SECONDS, note_use
from ossmount.config import Settings, compose
from ossmount.errors import (
    AccessDenied,
    CacheError,
    IndexDamaged,
    IndexFileError,
    OssmountError,
    SettingsError,
    StoreError,
)
from ossmount.index import open_index
from ossmount.stores import StorePool
from ossmount.stores.file import FileStore
from ossmount.stores.uploading import open_uploader
from ossmount.uris import FILE_ROOT
from tests.servers.oss_server import OssServer
from tests.servers.s3 import S3Server
from tests.support.index_files import index_of, numbered_tree, silent


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small index has several."""
    monkeypatch.setattr(artefacts, "PART_BYTES", 10_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return numbered_tree(tmp_path / "source", 300)


@pytest.fixture
def index(source: Path, tmp_path: Path) -> Path:
    return index_of(source, tmp_path / "x.ossidx")


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


@pytest.fixture
def uri(bucket: Path) -> str:
    return f"file://{bucket}/train.ossidx"


def stored_parts(bucket: Path) -> list[Path]:
    return sorted((bucket / "train.ossidx.parts").iterdir())


def pull(uri: str, tmp_path: Path, settings: Settings = Settings()) -> Path:  # noqa: B008 - frozen
    target = tmp_path / "pulled" / "y.ossidx"
    pull_index(uri, target, settings, silent, tmp_path / "parts")
    return target


def test_each_part_says_itself_what_was_sent_of_it(bucket: Path) -> None:
    """Eight threads send: a sum that they shared could lose some of it."""
    with (
        closing(StorePool(Settings().store)) as pool,
        closing(open_uploader(FILE_ROOT, Settings().store)) as up,
    ):
        sending = artefacts._Sending(pool(FILE_ROOT), up, f"{bucket}/parts/".lstrip("/"))
        part, sent = sending.send(b"data" * 100)
        assert (part.length, sent) == (400, part.stored)
        assert sending.send(b"data" * 100) == (part, 0)


def test_what_is_pulled_is_what_was_pushed(index: Path, bucket: Path, uri: str, tmp_path: Path) -> None:
    pushed = push_index(index, uri, Settings(), silent)
    assert pushed.parts == len(stored_parts(bucket)) > 3
    assert (
        pushed.sent_bytes == pushed.stored_bytes == sum(path.stat().st_size for path in stored_parts(bucket))
    )
    assert pushed.stored_bytes < pushed.index_bytes == index.stat().st_size
    assert pull(uri, tmp_path).read_bytes() == index.read_bytes()
    assert not (tmp_path / "parts").exists()


def test_a_second_push_sends_nothing(index: Path, uri: str) -> None:
    push_index(index, uri, Settings(), silent)
    assert push_index(index, uri, Settings(), silent).sent_bytes == 0


def test_a_push_goes_on(index: Path, bucket: Path, uri: str) -> None:
    first = push_index(index, uri, Settings(), silent)
    stored_parts(bucket)[0].unlink()
    again = push_index(index, uri, Settings(), silent)
    assert 0 < again.sent_bytes < first.sent_bytes


def test_the_next_generation_replaces_the_pointer(
    source: Path, index: Path, uri: str, tmp_path: Path
) -> None:
    push_index(index, uri, Settings(), silent)
    (source / "class0" / "000").write_bytes(b"other")
    refresh_index(index, Settings(), silent)
    push_index(index, uri, Settings(), silent)
    with closing(open_index(pull(uri, tmp_path))) as opened:
        assert opened.info().generation == 2


def test_a_pull_goes_on_with_the_parts_it_has(index: Path, bucket: Path, uri: str, tmp_path: Path) -> None:
    push_index(index, uri, Settings(), silent)
    lost = stored_parts(bucket)[-1]
    data = lost.read_bytes()
    lost.unlink()
    with pytest.raises(IndexDamaged, match="is gone"):
        pull(uri, tmp_path)
    assert not list((tmp_path / "pulled").iterdir())
    kept = {path.name for path in (tmp_path / "parts").iterdir()}
    assert kept
    for path in stored_parts(bucket):
        if path.name in kept:
            path.write_bytes(b"not asked for again")
    lost.write_bytes(data)
    assert pull(uri, tmp_path).read_bytes() == index.read_bytes()


def test_what_a_killed_pull_left_is_not_in_the_way(index: Path, uri: str, tmp_path: Path) -> None:
    """A container's first process has the same process id each time."""
    push_index(index, uri, Settings(), silent)
    (tmp_path / "pulled").mkdir()
    (tmp_path / "pulled" / f"y.ossidx.tmp.{os.getpid()}").write_bytes(b"half of it")
    assert pull(uri, tmp_path).read_bytes() == index.read_bytes()


def test_who_pulls_the_same_at_once_waits_and_fetches_nothing(
    index: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the mounts of a job do that start together: the first to end took away the others' parts."""
    push_index(index, uri, Settings(), silent)
    fetched: list[str] = []
    fetch = artefacts._Fetching.fetch

    def counted(fetching: artefacts._Fetching, part: artefacts.Part) -> Path:
        fetched.append(part.sha256)
        return fetch(fetching, part)

    monkeypatch.setattr(artefacts._Fetching, "fetch", counted)
    with ThreadPoolExecutor(4) as pool:
        pulled = [
            pool.submit(pulled_index, uri, tmp_path / "kept", Settings(), silent, tmp_path / "parts")
            for _ in range(4)
        ]
    assert len({found.result() for found in pulled}) == 1
    assert pulled[0].result().read_bytes() == index.read_bytes()
    assert len(fetched) == len(set(fetched)) > 3
    assert not (tmp_path / "parts").exists()


def test_a_pull_of_another_index_is_not_waited_for(
    index: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What two of them have in common, the first to end takes away: it is fetched again."""
    push_index(index, uri, Settings(), silent)
    push_index(index, f"{uri}-2", Settings(), silent)
    fetch, meanwhile = artefacts._Fetching.fetch, [f"{uri}-2"]

    def fetch_and_pull_another(fetching: artefacts._Fetching, part: artefacts.Part) -> Path:
        found = fetch(fetching, part)
        with suppress(IndexError):
            other = meanwhile.pop()
            pull_index(other, tmp_path / "other.ossidx", Settings(), silent, tmp_path / "parts")
        return found

    monkeypatch.setattr(artefacts._Fetching, "fetch", fetch_and_pull_another)
    assert pull(uri, tmp_path).read_bytes() == (tmp_path / "other.ossidx").read_bytes()
    assert not (tmp_path / "parts").exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(bucket: Path) -> None:
        pointer = bucket / "train.ossidx"
        fields = json.loads(pointer.read_bytes())
        change(fields)
        pointer.write_text(json.dumps(fields))

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit of a part": lambda bucket: flip(stored_parts(bucket)[1]),
    "a part cut short": lambda bucket: stored_parts(bucket)[1].write_bytes(b"x"),
    "no JSON": lambda bucket: (bucket / "train.ossidx").write_bytes(b"\x00index"),
    "JSON that is nested too deeply": lambda bucket: (bucket / "train.ossidx").write_bytes(b"[" * 50_000),
    "another kind": rewrite(lambda fields: fields.update(kind="x")),
    "parts in another order": rewrite(lambda fields: fields["parts"].reverse()),
    "a part too few": rewrite(lambda fields: fields["parts"].pop()),
    "a path for a digest": rewrite(lambda fields: fields["parts"][0].update(sha256="../../etc/passwd")),
    "a bomb": rewrite(lambda fields: fields["parts"][0].update(length=1 << 40)),
    "another checksum": rewrite(lambda fields: fields.update(checksum="xxh3-128:" + "0" * 32)),
    "a path for a checksum": rewrite(lambda fields: fields.update(checksum="xxh3-128:../../x")),
    "another format": rewrite(lambda fields: fields.update(format=2)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused(damage: str, index: Path, bucket: Path, uri: str, tmp_path: Path) -> None:
    target = tmp_path / "pulled" / "y.ossidx"
    target.parent.mkdir()
    target.write_bytes(b"as it was")
    push_index(index, uri, Settings(), silent)
    DAMAGES[damage](bucket)
    with pytest.raises((IndexFileError, StoreError)) as caught:
        pull(uri, tmp_path)
    assert isinstance(caught.value, OssmountError)
    assert target.read_bytes() == b"as it was"
    assert [path.name for path in target.parent.iterdir()] == ["y.ossidx"]


def test_who_may_not_list_pushes_too(
    index: Path, uri: str, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 answers 403 to a HEAD of what is not there unless the asker may list."""
    monkeypatch.setattr(FileStore, "head", Mock(side_effect=AccessDenied("403 Forbidden")))
    push_index(index, uri, Settings(), silent)
    assert len(stored_parts(bucket)) == -(-index.stat().st_size // 10_000)


def test_damaged_index_is_not_published(index: Path, bucket: Path, uri: str) -> None:
    flip(index)
    with pytest.raises(IndexDamaged):
        push_index(index, uri, Settings(), silent)
    assert not list(bucket.iterdir())


def test_parts_damaged_on_this_disk_are_fetched_again(index: Path, uri: str, tmp_path: Path) -> None:
    push_index(index, uri, Settings(), silent)
    pointer = Pointer.decode(Path(uri.removeprefix("file://")).read_bytes(), uri)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / pointer.parts[0].sha256).write_bytes(bytes(pointer.parts[0].stored))
    with pytest.raises(IndexDamaged):
        pull(uri, tmp_path)
    assert pull(uri, tmp_path).read_bytes() == index.read_bytes()


def test_pulled_once(source: Path, index: Path, bucket: Path, uri: str, tmp_path: Path) -> None:
    push_index(index, uri, Settings(), silent)
    where = (tmp_path / "kept", Settings(), silent, tmp_path / "parts")
    first = pulled_index(uri, *where)
    for path in stored_parts(bucket):
        path.unlink()
    assert pulled_index(uri, *where) == first
    assert first.read_bytes() == index.read_bytes()


def test_a_cache_that_takes_no_parts_is_named(index: Path, uri: str, tmp_path: Path) -> None:
    push_index(index, uri, Settings(), silent)
    (tmp_path / "parts").write_bytes(b"no directory")
    with pytest.raises(CacheError, match=f"{tmp_path}/parts: File exists; name a writable directory"):
        pull(uri, tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="no index at"):
        pull(f"file://{tmp_path}/none.ossidx", tmp_path)


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/a/", "https://host/x.ossidx"])
def test_places_that_take_no_index(uri: str, index: Path) -> None:
    with pytest.raises(SettingsError):
        push_index(index, uri, Settings(), silent)


@pytest.mark.parametrize(
    ("uri", "is_one"),
    [("s3://b/x.ossidx", True), ("oss://b/p/x.ossidx", True), ("x.ossidx", False), ("s3://b/x/", False)],
)
def test_which_uris_are_artefacts(uri: str, is_one: bool) -> None:
    assert is_artefact(uri) is is_one


@pytest.mark.server
def test_s3(index: Path, s3_moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_moto.client().create_bucket(Bucket="artefacts")
    for name, value in s3_moto.environment().items():
        monkeypatch.setenv(name, value)
    settings = compose({"endpoint_url": s3_moto.endpoint_url, "addressing_style": "path"})
    uri = "s3://artefacts/indexes/train.ossidx"
    assert push_index(index, uri, settings, silent).sent_bytes > 0
    assert push_index(index, uri, settings, silent).sent_bytes == 0
    assert pull(uri, tmp_path, settings).read_bytes() == index.read_bytes()
    stray = "indexes/train.ossidx.parts/" + "0" * 64
    s3_moto.client().put_object(Bucket="artefacts", Key=stray, Body=b"of an older generation")
    monkeypatch.setattr(pruning, "PUSHED_SECONDS", -60.0)  # as if a day had passed
    assert push_index(index, uri, settings, silent, prune=True).removed == 1
    assert pull(uri, tmp_path, settings).read_bytes() == index.read_bytes()


@pytest.mark.server
def test_oss(index: Path, oss: OssServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oss.create_bucket("artefacts")
    for name, value in oss.environment().items():
        monkeypatch.setenv(name, value)
    settings = compose({"endpoint_url": oss.endpoint_url, "region": oss.region})
    uri = "oss://artefacts/train.ossidx"
    oss.fail_next(500, "InternalError", 2)
    assert push_index(index, uri, settings, silent).sent_bytes > 0
    oss.put("artefacts", "train.ossidx.parts/" + "0" * 64, b"of an older generation")
    monkeypatch.setattr(pruning, "PUSHED_SECONDS", -60.0)  # as if a day had passed
    assert push_index(index, uri, settings, silent, prune=True).removed == 1
    assert pull(uri, tmp_path, settings).read_bytes() == index.read_bytes()


# -- what is thrown away ----------------------------------------------------------------------------------


def next_generation(source: Path, index: Path, number: int) -> None:
    """Another generation, of which a part or more is another one."""
    (source / "class0" / "000").write_bytes(b"generation %d" % number)
    refresh_index(index, Settings(), silent)


def age(paths: list[Path], seconds: float) -> None:
    then = time.time() - seconds
    for path in paths:
        os.utime(path, (then, then))


def names_in(pointer: bytes) -> set[str]:
    return {part["sha256"] for part in json.loads(pointer)["parts"]}


def test_pruning_keeps_what_is_published_and_what_was(
    source: Path, index: Path, bucket: Path, uri: str, tmp_path: Path
) -> None:
    pointers, contents = [], []
    for number in range(3):
        next_generation(source, index, number)
        pushed = push_index(index, uri, Settings(), silent, prune=number == 2)
        assert pushed.removed == 0, "no part is older than a day"
        pointers.append((bucket / "train.ossidx").read_bytes())
        contents.append(index.read_bytes())
    first, second, third = map(names_in, pointers)
    assert first - second - third
    (bucket / "train.ossidx").write_bytes(pointers[1])
    age(stored_parts(bucket), 2 * PUSHED_SECONDS)
    assert push_index(index, uri, Settings(), silent).removed == 0, "only where it is asked for"
    (bucket / "train.ossidx").write_bytes(pointers[1])
    assert push_index(index, uri, Settings(), silent, prune=True).removed == len(first - second - third)
    assert {path.name for path in stored_parts(bucket)} == second | third
    assert pull(uri, tmp_path).read_bytes() == contents[2]
    (bucket / "train.ossidx").write_bytes(pointers[1])
    assert pull(uri, tmp_path).read_bytes() == contents[1], "a pull that had begun ends"


def test_pulled_indexes_that_nobody_asks_for_are_removed(
    source: Path, index: Path, uri: str, tmp_path: Path
) -> None:
    where = (tmp_path / "kept", Settings(), silent, tmp_path / "parts")
    kept = []
    for number in range(3):
        next_generation(source, index, number)
        push_index(index, uri, Settings(), silent)
        if number == 2:
            age(kept, 2 * UNUSED_SECONDS)
            note_use(kept[1])
        kept.append(pulled_index(uri, *where))
    assert [path.exists() for path in kept] == [False, True, True]


def test_mounting_a_pulled_index_is_a_use_of_it(index: Path, uri: str, tmp_path: Path) -> None:
    where = (tmp_path / "kept", Settings(), silent, tmp_path / "parts")
    push_index(index, uri, Settings(), silent)
    path = pulled_index(uri, *where)
    age([path], 2 * UNUSED_SECONDS)
    assert pulled_index(uri, *where) == path
    assert path.stat().st_mtime > time.time() - UNUSED_SECONDS
