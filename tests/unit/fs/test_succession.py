"""Across a swap: names are the new generation's, open files and listings under way go on.

Touch it when a swap promises something else to what is open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.errors import NoSuchEntry, StaleInode
from ossmount.fs import Succession
from ossmount.fs.xattrs import xattrs_of
from ossmount.index import LmdbIndex, build, open_index
from ossmount.model import ROOT_INODE, Entry, EntryBatch, Extent, ObjectId


def made(path: Path, files: Mapping[str, str], previous: LmdbIndex | None = None) -> LmdbIndex:
    """An index of ``files``: entity tags by name."""
    entries = [
        Entry(name.encode(), Extent(ObjectId("s3://b", name, etag, 5), 0, 5), None, 0)
        for name, etag in sorted(files.items(), key=lambda item: item[0].encode())
    ]
    build(iter([EntryBatch.of(entries)]), path, source="test", previous=previous)
    return open_index(path)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[LmdbIndex, LmdbIndex]]:
    before = {f"d/{name}": "1" for name in "abcdef"}
    after = before | {"d/c": "2", "d/d": "2", "d/cc": "1"}
    del after["d/e"]
    with (
        closing(made(tmp_path / "old", before)) as old,
        closing(made(tmp_path / "new", after, old)) as new,
    ):
        yield old, new


def names(index: Succession | LmdbIndex, directory: int, after: int = 0) -> list[bytes]:
    listed = [name for part in index.listing(directory, after) for name in part.names]
    assert listed == [child.name for chunk in index.children(directory, after) for child in chunk]
    return listed


def test_names_are_the_new_ones(pair: tuple[LmdbIndex, LmdbIndex]) -> None:
    old, new = pair
    both = Succession(new, old)
    directory = new.resolve(b"d")
    assert names(both, directory) == [b"a", b"b", b"c", b"cc", b"d", b"f"]
    assert both.info().generation == 2
    gone, changed = old.resolve(b"d/e"), old.resolve(b"d/c")
    for ino in (gone, changed):
        with pytest.raises(StaleInode):
            both.attributes(ino)
    found = both.lookup(directory, b"c")
    assert found is not None
    assert found.ino != changed
    assert both.parent(found.ino) == directory


def test_open_files_keep_their_content(pair: tuple[LmdbIndex, LmdbIndex]) -> None:
    old, new = pair
    both = Succession(new, old)
    assert both.extent(old.resolve(b"d/c")).object.etag == "1"
    assert both.extent(new.resolve(b"d/c")).object.etag == "2"
    with pytest.raises(NoSuchEntry):
        both.extent(10**6)


@pytest.mark.parametrize(
    ("last", "rest"),
    [
        (b"b", [b"c", b"cc", b"d", b"f"]),
        (b"c", [b"cc", b"d", b"f"]),  # changed: it has another number, and was told already
        (b"d", [b"cc", b"f"]),
        (b"e", [b"cc", b"f"]),  # gone, after two that changed
        (b"f", []),
    ],
)
def test_listings_go_on(pair: tuple[LmdbIndex, LmdbIndex], last: bytes, rest: list[bytes]) -> None:
    old, new = pair
    both, directory = Succession(new, old), old.resolve(b"d")
    assert names(both, directory, old.resolve(b"d/" + last)) == rest


def test_both_indexes_are_closed() -> None:
    closed: list[str] = []

    class Closing:
        def __init__(self, name: str) -> None:
            self.close = lambda: closed.append(name)

    Succession(Closing("new"), Closing("old")).close()  # type: ignore[arg-type]  # nothing else is asked
    assert closed == ["new", "old"]


def test_a_file_without_a_label_has_no_attribute_of_it(pair: tuple[LmdbIndex, LmdbIndex]) -> None:
    _old, new = pair
    attributes = xattrs_of(new, new.resolve(b"d/a"))
    assert {name: value() for name, value in attributes.items()} == {
        b"user.ossmount.uri": b"s3://b/d/a",
        b"user.ossmount.key": b"d/a",
        b"user.ossmount.etag": b"1",
        b"user.ossmount.size": b"5",
    }


def test_position_of_nobody(pair: tuple[LmdbIndex, LmdbIndex]) -> None:
    old, new = pair
    with pytest.raises(NoSuchEntry):
        names(Succession(new, old), new.resolve(b"d"), 10**6)


trees = st.dictionaries(st.sampled_from([f"d/{i:02}" for i in range(20)]), st.sampled_from("12"), min_size=1)


@given(trees, trees, st.data())
@settings(max_examples=30, deadline=None)
def test_no_name_twice_and_none_that_stays_is_left_out(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, str],
    after: dict[str, str],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("trees")
    with (
        closing(made(folder / "old", before)) as old,
        closing(made(folder / "new", after, old)) as new,
    ):
        directory = old.resolve(b"d")
        listed = names(old, directory)
        count = data.draw(st.integers(0, len(listed)))
        told = listed[:count]
        last = old.resolve(b"d/" + told[-1]) if told else 0
        rest = names(Succession(new, old), directory, last)
        assert not set(told) & set(rest)
        stays = {name for name in listed if f"d/{name.decode()}" in after}
        assert stays <= set(told) | set(rest)
        assert new.resolve(b"") == ROOT_INODE
