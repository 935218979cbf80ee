"""Rows of one path: which are the same file, and what the others are called."""

from __future__ import annotations

import pytest

from ossmount.errors import TwoSizes
from ossmount.index import LmdbIndex, report
from ossmount.index.names import unescape
from ossmount.model import ROOT_INODE, Entry, Extent, ObjectId
from tests.unit.index.conftest import BuildIndex, entry


def names_of(index: LmdbIndex) -> list[bytes]:
    return [name for part in index.listing(ROOT_INODE) for name in part.names]


def test_identical_rows_merge_and_different_ones_get_a_suffix(make_index: BuildIndex) -> None:
    one, other = entry("p.jpg", 1, "e1"), entry("p.jpg", 1, "e2")
    newest = one._replace(mtime_ns=3 * 10**9)
    for order in ([one, newest, other], [other, newest, one]):
        index = make_index(order)
        names = [child.name for chunk in index.children(ROOT_INODE) for child in chunk]
        assert names[0] == b"p.jpg"
        assert names[1].startswith(b"p%dup-")
        assert names[1].endswith(b".jpg")
        assert index.extent(index.resolve(b"p.jpg")).object.etag == "e1"
        assert index.attributes(index.resolve(b"p.jpg")).mtime_ns == newest.mtime_ns
        assert index.meta["counts"] == {"rename": 1, "merge": 1, "skip": 0}
        assert [row.what for row in report(index)].count("merge") == 1


@pytest.mark.parametrize("path", ["a\0.jpg", "%2E"])
def test_objects_of_one_odd_path_have_names_that_lead_back(make_index: BuildIndex, path: str) -> None:
    index = make_index([entry(path, etag="e1"), entry(path, etag="e2")])
    assert [unescape(name) for name in names_of(index)] == [path.encode()] * 2


def test_tokens_that_meet_become_longer(make_index: BuildIndex) -> None:
    """The hashes of the second and the third begin with the same 8 digits, as trying has shown."""
    index = make_index([entry("p.jpg", etag=etag) for etag in ("e", "e43288", "e46995")])
    assert sorted(map(len, set(names_of(index)))) == [len("p.jpg")] + [len("p%dup-.jpg") + 16] * 2


def test_rows_are_one_file_only_where_all_but_the_time_is_the_same(make_index: BuildIndex) -> None:
    rows = [
        Entry(b"p", Extent(ObjectId("s3://b", "k", "e", 100), 0, 10), None, 1),
        Entry(b"p", Extent(ObjectId("s3://c", "k", "e", 100), 0, 10), None, 1),
        Entry(b"p", Extent(ObjectId("s3://b", "l", "e", 100), 0, 10), None, 1),
        Entry(b"p", Extent(ObjectId("s3://b", "k", "f", 100), 0, 10), None, 1),
        Entry(b"p", Extent(ObjectId("s3://b", "k", "e", 200), 0, 10), None, 1),
        Entry(b"p", Extent(ObjectId("s3://b", "k", "e", 100), 9, 10), None, 1),
        Entry(b"p", Extent(ObjectId("s3://b", "k", "e", 100), 0, 20), None, 1),
        Entry(b"p", Extent(ObjectId("s3://b", "k", "e", 100), 0, 10), "cat", 1),
    ]
    index = make_index([*rows, *(row._replace(mtime_ns=2) for row in rows)])
    assert len(set(names_of(index))) == len(rows)
    found = [
        (index.extent(ref.ino), index.label(ref.ino)) for chunk in index.files(ROOT_INODE) for ref in chunk
    ]
    assert {(row.extent, row.label) for row in rows} == set(found)


def test_an_object_of_two_sizes_is_refused_where_one_is_promised(make_index: BuildIndex) -> None:
    elsewhere = Entry(b"p", Extent(ObjectId("s3://other", "p", "e", 3), 0, 3), None, 1)
    rows = [entry("p", 1), entry("p", 2, key="another"), elsewhere]
    assert len(names_of(make_index(rows, one_size=True))) == 3
    with pytest.raises(TwoSizes, match="s3://bucket/p is there with 1 bytes and with 2"):
        make_index([rows[0], entry("p", 2)], one_size=True)
