"""LIST: order, pages, prefixes, and keys of every shape."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ossmount.model import ListPage, ObjectId
from ossmount.protocols import ObjectStore
from tests.store_suite.backends import Place

pytestmark = pytest.mark.server

ODD_KEYS = [
    "a",
    "a/b",
    "a//b",
    "./x",
    "../x",
    "x/",
    "%2E",
    "%",
    "%zz",
    "a%2Fb",
    "new\nline",
    "tab\t",
    "ctl\x01",
    "delete\x7f",
    " lead and trail ",
    "plus+",
    "amp&lt;",
    "<Key>",
    "q?x=1",
    "hash#",
    "back\\slash",
    'quote"',
    "é",
    "e\u0301",
    "€\U0001f600",
    "~t",
    "*",
    "n" * 255,
    "k" * 980,
    "dots/..",
    "dots/.",
    "/lead",
    "//",
]
MANY = [f"n{i % 7}/{i:05d}" for i in range(1205)]


def keys(pages: list[ListPage]) -> list[str]:
    return [key for page in pages for key in page.keys]


@functools.cache
def _put_many(put: Callable[[str, bytes], None], prefix: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: put(prefix + name, b"1"), MANY))


def filled(place: Place) -> list[str]:
    """More keys than a page holds, put once for each server; complete and sorted."""
    _put_many(place.put, place.shared)
    return sorted(place.shared + name for name in MANY)


def test_odd_keys_are_listed_in_byte_order(listed_place: Place, listed_store: ObjectStore) -> None:
    names = put_odd_keys(listed_place)
    got = keys(list(listed_store.list(listed_place.prefix)))
    assert got == sorted((listed_place.prefix + name for name in names), key=str.encode)


def test_odd_keys_are_read(listed_place: Place, listed_store: ObjectStore) -> None:
    names = put_odd_keys(listed_place)
    read, last, heads = {}, {}, {}
    rows = [row for page in listed_store.list(listed_place.prefix) for row in page.objects()]
    for row in rows:
        target = ObjectId(listed_store.uri, row.key, row.etag, row.size)
        read[row.key] = listed_store.get_range(target, 0, row.size)
        last[row.key] = listed_store.get_range(target, row.size - 1, 1)
        heads[row.key] = listed_store.head(row.key)[:3]
    data = {listed_place.prefix + name: name.encode() for name in names}
    assert read == data
    assert last == {key: value[-1:] for key, value in data.items()}
    assert heads == {row.key: row[:3] for row in rows}


def put_odd_keys(place: Place) -> list[str]:
    """Puts every key that the server can hold, with the key's own bytes as data."""
    names = [name for name in ODD_KEYS if place.holds(name)]
    for name in names:
        place.put(place.prefix + name, name.encode())
    return names


def test_columns_are_plain(listed_place: Place, listed_store: ObjectStore) -> None:
    listed_place.put(listed_place.prefix + "x", b"abc")
    (page,) = [page for page in listed_store.list(listed_place.prefix) if len(page)]
    (row,) = page.objects()
    assert [type(value) for value in row] == [str, int, str, int]
    assert row.etag
    assert '"' not in row.etag
    assert row.mtime_ns > 1_600_000_000 * 10**9


def test_beyond_one_page(listed_place: Place, listed_store: ObjectStore) -> None:
    wanted = filled(listed_place)
    pages = list(listed_store.list(listed_place.shared))
    assert keys(pages) == wanted
    assert len(pages) > 1


@pytest.mark.parametrize("position", [0, 500, 1000, 1203])
def test_start_after_a_key(position: int, listed_place: Place, listed_store: ObjectStore) -> None:
    wanted = filled(listed_place)
    got = keys(list(listed_store.list(listed_place.shared, start_after=wanted[position])))
    assert got == wanted[position + 1 :]


@pytest.mark.parametrize("text", ["n3", "n3/", "n3/00", "n3/00500x", "o", ""])
def test_start_after_something_between(text: str, listed_place: Place, listed_store: ObjectStore) -> None:
    wanted = filled(listed_place)
    after = listed_place.shared + text
    got = keys(list(listed_store.list(listed_place.shared, start_after=after)))
    assert got == [key for key in wanted if key > after]


def test_prefix_is_text_and_no_directory(listed_place: Place, listed_store: ObjectStore) -> None:
    wanted = filled(listed_place)
    for prefix in ("n3", "n3/000", "n3/00003", "nothing"):
        got = keys(list(listed_store.list(listed_place.shared + prefix)))
        assert got == [key for key in wanted if key.startswith(listed_place.shared + prefix)]


def test_delimiter(listed_place: Place, listed_store: ObjectStore) -> None:
    for name in ("a/1", "a/2", "b", "c/d/1", "c.txt", "e e/1"):
        listed_place.put(listed_place.prefix + name, b"1")
    pages = list(listed_store.list(listed_place.prefix, delimiter="/"))
    assert keys(pages) == [listed_place.prefix + name for name in ("b", "c.txt")]
    prefixes = [prefix for page in pages for prefix in page.prefixes]
    assert prefixes == [listed_place.prefix + name for name in ("a/", "c/", "e e/")]


def test_nothing_there(listed_place: Place, listed_store: ObjectStore) -> None:
    listed_place.put(listed_place.prefix + "x", b"1")
    assert keys(list(listed_store.list(listed_place.prefix + "y"))) == []
