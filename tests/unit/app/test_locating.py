"""Paths of a live mount, in every spelling that programs use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ossmount.app.locating import Finder, files_below, inodes_of
from ossmount.app.refreshing import PinnedIndex
from ossmount.app.runtime import MountRecord
from ossmount.errors import SourceError
from ossmount.index import open_index
from tests.support.index_files import index_of, numbered_tree

MOUNT = "/mnt/train"


@pytest.fixture
def finder(tmp_path: Path) -> Iterator[Finder]:
    with closing(open_index(index_of(numbered_tree(tmp_path / "tree", 8), tmp_path / "x.ossidx"))) as index:
        yield Finder(index, MOUNT)


@pytest.mark.parametrize(
    "spelling",
    [
        "class1/001",
        f"{MOUNT}/class1/001",
        f"{MOUNT}//class1/001",
        f"{MOUNT}/./class1/001",
        f"{MOUNT}/class0/../class1/001",
        f"{MOUNT}/class1/001/",
        b"class1//001",
    ],
)
def test_one_file_in_many_spellings(finder: Finder, spelling: str | bytes) -> None:
    assert finder.file(spelling) == finder.file("class1/001") != finder.file("class1/005")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (f"{MOUNT}/class1/", "is a directory"),
        (f"{MOUNT}/class1/nope", "no 'class1/nope' in this mount"),
        (f"{MOUNT}2/class1/001", "is not below"),
        (f"{MOUNT}/../train2/class1/001", "is not below"),
        (MOUNT, "is a directory"),
    ],
)
def test_what_is_no_file_is_said(finder: Finder, path: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        finder.file(path)


@pytest.mark.parametrize("name_of_the_index", ["replaced", "removed"])
def test_the_index_that_is_served_is_asked(tmp_path: Path, name_of_the_index: str) -> None:
    """Not the file that stands at its path by now: numbers of another line mean other files."""
    tree, path = numbered_tree(tmp_path / "tree", 8), tmp_path / "x.ossidx"
    index_of(tree, path)
    pin = PinnedIndex(path)
    record = MountRecord(MOUNT, "s3://b/", str(path), 0, served=pin.seen_from_outside)
    with closing(pin):
        expected = list(inodes_of(record, ["class1/001"])), files_below(record, ["class1"])
        if name_of_the_index == "replaced":
            (tree / "class0" / "0000").write_bytes(b"takes a number")
            index_of(tree, path)
            assert list(inodes_of(MountRecord(MOUNT, "s3://b/", str(path), 0), ["class1/001"])) != expected[0]
        else:
            path.unlink()
        assert (list(inodes_of(record, ["class1/001"])), files_below(record, ["class1"])) == expected


def test_where_no_supervisor_holds_it_the_path_counts(tmp_path: Path) -> None:
    path = index_of(numbered_tree(tmp_path / "tree", 8), tmp_path / "x.ossidx")
    record = MountRecord(MOUNT, "s3://b/", str(path), 0, served=f"{tmp_path}/gone")
    assert len(files_below(record, [])[0]) == 8
