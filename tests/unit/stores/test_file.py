"""The local store beyond the conformance suite: bytes, links, walks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.errors import AccessDenied, BucketMissing, ObjectChanged, ObjectMissing
from ossmount.model import ObjectId
from ossmount.stores.file import FileStore, decode_key, encode_key


def keys(store: FileStore, prefix: str, after: str = "") -> list[str]:
    return [key for page in store.list(prefix, after) for key in page.keys]


@pytest.fixture
def top(tmp_path: Path) -> str:
    return f"{str(tmp_path)[1:]}/"


@given(st.binary(max_size=30))
def test_names_are_any_bytes(name: bytes) -> None:
    assert encode_key(decode_key(name)) == name


def test_name_that_is_no_utf8(tmp_path: Path, top: str) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    with open(path, "wb") as file:  # noqa: PTH123 - a path in bytes
        file.write(b"data")
    store = FileStore()
    (key,) = keys(store, top)
    assert key == f"{top}\udcff\udcfe.jpg"
    info = store.head(key)
    assert store.get_range(ObjectId(store.uri, key, info.etag, info.size), 1, 2) == b"at"


def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, path, pread = FileStore(), tmp_path / "f", os.pread
    path.write_bytes(b"data")
    info = store.head(f"{top}f")

    def pread_and_change(descriptor: int, length: int, start: int) -> bytes:
        data = pread(descriptor, length, start)
        os.utime(path, ns=(1, 1))
        return data

    monkeypatch.setattr(os, "pread", pread_and_change)
    with pytest.raises(ObjectChanged):
        store.get_range(ObjectId(store.uri, info.key, info.etag, info.size), 0, 4)


def test_reads_that_give_less_than_was_asked_for_go_on(
    tmp_path: Path, top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pread = FileStore(), os.pread
    (tmp_path / "f").write_bytes(b"0123456789")
    info = store.head(f"{top}f")
    monkeypatch.setattr(os, "pread", lambda descriptor, length, at: pread(descriptor, min(length, 3), at))
    assert store.get_range(ObjectId(store.uri, info.key, info.etag, info.size), 1, 8) == b"12345678"


def test_links(tmp_path: Path, top: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(b"1")
    (tmp_path / "e").symlink_to("d")
    (tmp_path / "d" / "loop").symlink_to("..")
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "z").symlink_to("d/file")
    os.mkfifo(tmp_path / "pipe")
    assert keys(FileStore(), top) == [f"{top}{name}" for name in ("d/file", "e/file", "z")]


NAMES = st.sampled_from(["a", "b", "a.b", "a0", "é", "~", " "])


@settings(max_examples=25)
@given(
    st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=12),
    st.lists(NAMES, max_size=2).map("/".join),
    st.lists(NAMES, max_size=3).map("/".join),
)
def test_listing_is_sorted_filtered_keys(
    tmp_path_factory: pytest.TempPathFactory, paths: set[tuple[str, ...]], prefix: str, after: str
) -> None:
    root = tmp_path_factory.mktemp("walk")
    top = f"{str(root)[1:]}/"
    made = []
    for parts in sorted(paths, key=len, reverse=True):
        path = root.joinpath(*parts)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"1")
            made.append(top + "/".join(parts))
    directory = Path("/") / (top + prefix).rpartition("/")[0]
    if not directory.is_dir():
        return
    wanted = [key for key in made if key.startswith(top + prefix) and key.encode() > (top + after).encode()]
    assert keys(FileStore(), top + prefix, top + after) == sorted(wanted, key=str.encode)


def test_missing_directory(top: str) -> None:
    with pytest.raises(BucketMissing, match="does not exist"):
        keys(FileStore(), f"{top}nothing/")


def test_nothing_is_below_a_file(tmp_path: Path, top: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert list(FileStore().list(f"{top}file/")) == []


def test_directory_is_no_object(tmp_path: Path, top: str) -> None:
    (tmp_path / "d").mkdir()
    store = FileStore()
    with pytest.raises(ObjectMissing):
        store.head(f"{top}d")
    with pytest.raises(ObjectMissing):
        store.get_range(ObjectId(store.uri, f"{top}d", "", 1), 0, 1)
    with pytest.raises(ObjectMissing):
        store.head(f"{top}d\0")


@pytest.mark.parametrize("name", ["n" * 300, "self", "self/below"])
def test_what_no_file_can_be_is_missing(tmp_path: Path, top: str, name: str) -> None:
    """So it is not asked for again and again, and --on-missing skip leaves it out."""
    (tmp_path / "self").symlink_to("self")
    store = FileStore()
    with pytest.raises(ObjectMissing):
        store.head(top + name)
    with pytest.raises(ObjectMissing):
        store.get_range(ObjectId(store.uri, top + name, "", 1), 0, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path, top: str) -> None:
    (tmp_path / "x").write_bytes(b"1")
    (tmp_path / "x").chmod(0)
    with pytest.raises(AccessDenied):
        FileStore().get_range(ObjectId("file:///", f"{top}x", "", 1), 0, 1)


def test_other_delimiters_are_refused(top: str) -> None:
    with pytest.raises(ValueError, match="delimiter"):
        next(FileStore().list(top, delimiter="-"))
