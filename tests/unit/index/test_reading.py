"""Opening, damage, errors of look-ups, and the answers a mount asks for."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import pytest
import xxhash

from ossmount.errors import (
    IndexDamaged,
    IndexFileError,
    IndexVersionError,
    IsADirectory,
    NoSuchEntry,
    NotADirectory,
)
from ossmount.index import LmdbIndex, build, open_index, reading
from ossmount.index.runs import Run
from ossmount.model import ROOT_INODE, EntryBatch
from tests.unit.index.conftest import BuildIndex, entry

TRAILER = 64


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "x.idx"
    entries = [entry(f"d{i % 5}/f{i:05}", i) for i in range(5000)]
    build(iter([EntryBatch.of(sorted(entries))]), path, source="s3://bucket/", options={"layout": "keys"})
    return path


def test_info_says_what_the_index_is(sound: Path) -> None:
    with open_index(sound) as index:
        info = index.info()
    assert (info.format, info.source, info.generation) == (1, "s3://bucket/", 1)
    assert (info.files, info.directories, info.total_bytes) == (5000, 5, sum(range(5000)))
    assert info.checksum.startswith("xxh3-128:")
    assert info.options == {"layout": "keys"}
    assert info.stores == ("s3://bucket",)


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match=r"no index at .*gone.idx"):
        open_index(tmp_path / "gone.idx")
    with pytest.raises(IndexFileError, match="cannot read index"):
        open_index(tmp_path)


def test_an_index_cut_anywhere_is_damaged(sound: Path, tmp_path: Path) -> None:
    size = sound.stat().st_size
    cut = tmp_path / "cut.idx"
    shutil.copy(sound, cut)
    lengths = [0, 1, 19, 20, 63, 64, 4096, 8192, size // 2, size - 4096, *range(size - 66, size)]
    for length in sorted(lengths, reverse=True):
        with cut.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(IndexDamaged, match=r"cut\.idx.*build it again"):
            open_index(cut)


def test_an_index_that_grew_or_has_a_hole_is_damaged(sound: Path, tmp_path: Path) -> None:
    data = sound.read_bytes()
    other = tmp_path / "x.idx"
    for spoiled in (data + b"\n", data[:-TRAILER] + bytes(4096) + data[-TRAILER:], data[4096:]):
        other.write_bytes(spoiled)
        with pytest.raises(IndexDamaged):
            open_index(other)


def test_something_else_is_not_an_index(tmp_path: Path) -> None:
    other = tmp_path / "x.idx"
    other.write_text("key\tlabel\n" * 100)
    with pytest.raises(IndexDamaged, match="is not an ossmount index"):
        open_index(other)


def test_a_page_that_is_damaged_is_told_where_the_index_is_used(sound: Path, tmp_path: Path) -> None:
    """Its trailer is whole, so it opens; LMDB finds out when it comes to the page."""
    data = sound.read_bytes()
    other = tmp_path / "x.idx"
    found = 0
    for page in range(2, len(data) // 4096):
        other.write_bytes(data[: page * 4096] + b"\xff" * 4096 + data[(page + 1) * 4096 :])
        try:
            with open_index(other) as index:
                for children in index.children(ROOT_INODE):
                    list(children)
        except IndexDamaged as error:
            assert "x.idx is damaged" in str(error) or "cannot be opened" in str(error)  # noqa: PT017
            found += "is damaged: mdb" in str(error)
    assert found


def test_another_version_is_refused(sound: Path, tmp_path: Path) -> None:
    data = bytearray(sound.read_bytes())
    at = len(data) - TRAILER
    struct.pack_into("<I", data, at + 8, 99)
    data[at + 40 : at + 48] = xxhash.xxh3_64_digest(bytes(data[at : at + 40]))
    other = tmp_path / "x.idx"
    other.write_bytes(data)
    with pytest.raises(IndexVersionError, match=r"format 99.*build it again"):
        open_index(other)
    data[at + 8] = 98  # and a trailer that is not what was written
    other.write_bytes(data)
    with pytest.raises(IndexDamaged, match="damaged trailer"):
        open_index(other)


@pytest.mark.parametrize(
    ("whole", "spoiled"),
    [
        (b'{"source"', b'{"sourc\xff"'),
        (b'{"source"', b'{"Source"'),
        (b'{"source": ', b'["source", '),
        (b'{"', b""),
    ],
    ids=["not UTF-8", "another name", "no JSON", "gone"],
)
def test_a_damaged_description_is_told_at_once(
    sound: Path, tmp_path: Path, whole: bytes, spoiled: bytes
) -> None:
    """The whole file is not read for that, but what is read of it is not believed."""
    other = tmp_path / "x.idx"
    other.write_bytes(sound.read_bytes().replace(whole, spoiled.ljust(len(whole), b"\0")))
    caught: list[IndexDamaged] = []
    for _ in range(2):  # and closed: who holds an error holds what raised it, and LMDB opens a file once
        with pytest.raises(IndexDamaged, match=r"is damaged: .*build it again") as raised:
            open_index(other)
        caught.append(raised.value)


def test_verify_finds_a_changed_byte(sound: Path, tmp_path: Path) -> None:
    other = tmp_path / "x.idx"
    data = bytearray(sound.read_bytes())
    other.write_bytes(data)
    with open_index(other) as index:
        index.verify()
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    with open_index(other) as index, pytest.raises(IndexDamaged, match="checksum"):
        index.verify()


def test_an_index_that_was_moved_or_made_read_only_opens(sound: Path, tmp_path: Path) -> None:
    other = tmp_path / "moved.idx"
    shutil.copy(sound, other)
    other.chmod(0o444)
    with open_index(other) as index:
        assert index.lookup(ROOT_INODE, b"d0") is not None
    assert [p.name for p in tmp_path.iterdir()] == ["moved.idx"]


def check_errors(index: LmdbIndex) -> None:
    file, directory = index.resolve(b"d/f"), index.resolve(b"d")
    for ask in (index.attributes, index.extent, index.label, index.parent, index.name):
        for ino in (0, 999, 2**63):
            with pytest.raises(NoSuchEntry):
                ask(ino)
    for ino in (ROOT_INODE, directory):
        with pytest.raises(IsADirectory):
            index.extent(ino)
    with pytest.raises(NotADirectory):
        index.lookup(file, b"x")
    with pytest.raises(NoSuchEntry):
        index.lookup(999, b"x")
    for listed in (index.children, index.listing, index.files):
        with pytest.raises(NotADirectory):
            next(listed(file))
        with pytest.raises(NoSuchEntry):
            next(listed(999))
    with pytest.raises(NoSuchEntry, match="not in directory"):
        next(index.children(directory, after=directory))
    with pytest.raises(NoSuchEntry, match="not below"):
        next(index.files(directory, after=index.resolve(b"z")))


def test_wrong_questions_have_their_errors(make_index: BuildIndex) -> None:
    check_errors(make_index([entry("d/f"), entry("z")]))


def test_an_empty_directory_has_no_children(make_index: BuildIndex) -> None:
    index = make_index([entry("e/", 0), entry("f")])
    empty = index.resolve(b"e")
    assert list(index.children(empty)) == []
    assert list(index.files(empty)) == []
    assert index.lookup(empty, b"x") is None
    assert index.lookup(ROOT_INODE, b"nothing") is None
    assert index.lookup(ROOT_INODE, b"e/x") is None


@pytest.mark.parametrize(
    "present",
    [
        [f"f-{i:02}" for i in range(30)],
        [f"f-{i}" for i in range(30)],
        ["1", "1111", "11", "2"],
        ["11", "12", "21"],
        ["12", "3"],
        ["19", "2"],
        ["only"],
    ],
)
def test_a_name_that_only_looks_like_one_is_not_there(make_index: BuildIndex, present: list[str]) -> None:
    """Else a program would read another file than the one it opens."""
    index = make_index([entry(name) for name in present])
    like = {"g" + name[1:] for name in present} | {name + end for name in present for end in "01x"}
    like |= {one[-1] + other for one in present for other in present}
    like |= {name[start:end] for name in present for start in range(len(name)) for end in (-1, -2, None)}
    for name in like | set(present):
        assert (index.lookup(ROOT_INODE, name.encode()) is not None) == (name in present)


def test_directories_have_links_and_the_newest_time_below(make_index: BuildIndex) -> None:
    entries = [entry("a/b/c"), entry("a/d/e")._replace(mtime_ns=7 * 10**9), entry("a/f"), entry("g/h")]
    entries.append(entry("marker/", 0)._replace(mtime_ns=8 * 10**9))
    index = make_index(entries)
    assert index.attributes(index.resolve(b"a"))[3:] == (7 * 10**9, 4)
    assert index.attributes(index.resolve(b"a/b"))[3:] == (10**9, 2)
    assert index.attributes(index.resolve(b"marker"))[3:] == (8 * 10**9, 2)
    assert index.attributes(ROOT_INODE)[3:] == (8 * 10**9, 5)


def test_paths_lead_to_inodes_and_back(make_index: BuildIndex) -> None:
    index = make_index([entry("a/b/c"), entry("a//x")])
    for path in (b"a", b"a/b", b"a/b/c", b"a/%empty/x", b""):
        assert index.path_of(index.resolve(path)) == path
    assert index.resolve(b"/a//b/") == index.resolve(b"a/b")
    with pytest.raises(NoSuchEntry, match="no such entry: 'a/q'"):
        index.resolve(b"a/q")


def test_small_directories_stay_open_in_any_order_and_large_ones_are_bounded(
    make_index: BuildIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def open_run(data: bytes) -> Run:
        opened.append(len(data))
        return Run(data)

    monkeypatch.setattr(reading, "Run", open_run)
    entries = [entry(f"d{d:03}/{f}") for d in range(150) for f in range(3)]
    index = make_index(entries)
    inos = [ref.ino for chunk in index.files(ROOT_INODE) for ref in chunk]
    random.Random(1).shuffle(inos)
    for ino in inos:
        index.extent(ino)
    opened.clear()
    for ino in inos:
        assert index.extent(ino).length == 1
    assert opened == []
    monkeypatch.setattr(reading, "_KEPT_BYTES", 1000)
    bounded = make_index(entries)
    for ino in inos:
        assert bounded.extent(ino).length == 1
        assert bounded._kept_bytes < 1000 + max(opened)
    assert len(opened) > 150
