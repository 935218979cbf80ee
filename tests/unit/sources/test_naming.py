"""The rule that gives complete URIs their paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.sources.naming import BaseDirectory, CommonDirectory, common_directory
from ossmount.uris import parse_uri


def paths(*uris: str) -> list[str]:
    naming = CommonDirectory()
    for uri in uris:
        naming.add(*parse_uri(uri))
    return [naming.path(*parse_uri(uri)).decode() for uri in uris]


@pytest.mark.parametrize(
    ("uris", "expected"),
    [
        (["s3://b/x/a"], ["a"]),
        (["s3://b/x/1/a", "s3://b/x/2/b"], ["1/a", "2/b"]),
        (["s3://b/x/aa", "s3://b/x/ab"], ["aa", "ab"]),
        (["s3://b/x/a", "s3://b/xy/a"], ["x/a", "xy/a"]),
        (["s3://b/x/a", "s3://b/a"], ["x/a", "a"]),
        (["s3://b/x/a", "s3://c/x/a"], ["b/x/a", "c/x/a"]),
        (["s3://b/a", "oss://b/a", "oss://c/a"], ["s3-b/a", "oss-b/a", "c/a"]),
        (["file:///d/a", "s3://b/a"], ["file/d/a", "b/a"]),
        (["https://h/d/a.jpg?sig=/x/", "https://h/d/b.jpg"], ["a.jpg", "b.jpg"]),
        (["https://h/d/a.jpg?sig=/x"], ["a.jpg"]),
        (["s3://b/x?/a"], ["a"]),
    ],
)
def test_rule(uris: list[str], expected: list[str]) -> None:
    assert paths(*uris) == expected


@given(st.sets(st.text(alphabet="ab/", min_size=1, max_size=6), min_size=1, max_size=6))
def test_one_common_directory_is_stripped_and_nothing_else(keys: set[str]) -> None:
    ordered = sorted(keys)
    result = paths(*(f"s3://b/{key}" for key in ordered))
    stripped = {key[: len(key) - len(path)] for key, path in zip(ordered, result, strict=True)}
    assert len(stripped) == 1
    common = stripped.pop()
    assert common == "" or common.endswith("/")
    # It is the longest: not all paths begin with one further directory.
    assert len({path.partition("/")[0] if "/" in path else path for path in result}) > 1 or any(
        "/" not in path for path in result
    )


@given(st.text(alphabet="ab/", max_size=8), st.text(alphabet="ab/", max_size=8))
def test_common_directory_is_common_and_longest(one: str, other: str) -> None:
    common = common_directory(one, other)
    assert one.startswith(common)
    assert other.startswith(common)
    cuts = [one[: i + 1] for i, sign in enumerate(one) if sign == "/"]
    assert common == max([cut for cut in cuts if other.startswith(cut)], key=len, default="")


def test_base() -> None:
    naming = BaseDirectory("s3://b", "img/")
    assert naming.path("s3://b", "img/1/a") == b"1/a"
    assert naming.path("s3://b", "other/a") == b"b/other/a"
    assert naming.path("oss://c", "img/a") == b"c/img/a"
    assert BaseDirectory("https://h", "d/").path("https://h", "d/a?sig=/x") == b"a"


def test_names_that_are_no_utf8_keep_their_bytes() -> None:
    common, base = CommonDirectory(), BaseDirectory("file://", "d/")
    common.add("file://", "d/\udcff")
    for naming in (common, base):
        assert naming.path("file://", "d/\udcff") == b"\xff"
        assert naming.paths("file://", ["d/\udcff"]) == [b"\xff"]


@given(
    st.dictionaries(
        st.sampled_from(["s3://b", "s3://c"]),
        st.sets(st.text(alphabet="ab/", min_size=1), min_size=1),
        min_size=1,
    )
)
def test_columns_are_named_like_single_objects(stores: dict[str, set[str]]) -> None:
    one, many = CommonDirectory(), CommonDirectory()
    for store, keys in stores.items():
        many.add_column(store, list(keys))
        for key in keys:
            one.add(store, key)
    base = BaseDirectory("s3://b", "a/")
    for store, keys in stores.items():
        ordered = list(keys)
        assert many.paths(store, ordered) == [one.path(store, key) for key in ordered]
        assert base.paths(store, ordered) == [base.path(store, key) for key in ordered]
