"""The split of URIs into store and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.errors import SettingsError
from ossmount.uris import is_uri, join_uri, parse_uri, shown_uri


@pytest.mark.parametrize(
    ("uri", "root", "key"),
    [
        ("s3://b", "s3://b", ""),
        ("s3://b/", "s3://b", ""),
        ("s3://b/a//b%2E ?#x", "s3://b", "a//b%2E ?#x"),
        ("S3://b/x/", "s3://b", "x/"),
        ("oss://bucket-1/ü", "oss://bucket-1", "ü"),
        ("file:///a/b", "file:///", "a/b"),
        ("file://localhost/a/b/", "file:///", "a/b/"),
        ("https://Host.example:8080/a/b?v=1#top", "https://host.example:8080", "a/b?v=1"),
        ("http://[::1]:80/a", "http://[::1]:80", "a"),
        ("/data/x", "file:///", "data/x"),
        ("/data/x/", "file:///", "data/x/"),
        ("/", "file:///", ""),
    ],
)
def test_split(uri: str, root: str, key: str) -> None:
    assert parse_uri(uri) == (root, key)


def test_relative_path_belongs_to_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_uri("train/") == ("file:///", f"{tmp_path}/train/"[1:])


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a\0b",
        "s3://",
        "s3:///key",
        "s3://a b/key",
        "ftp://h/x",
        "file://other/x",
        "file://localhost",
        "http:///x",
    ],
)
def test_refused_with_a_remedy(uri: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_uri(uri)
    assert caught.value.remedy.startswith("write ")


@given(st.sampled_from(["s3://b", "oss://b-1.x", "file:///"]), st.text())
def test_join_is_the_inverse(root: str, key: str) -> None:
    assert parse_uri(join_uri(root, key)) == (root, key)


def test_is_uri() -> None:
    assert is_uri("ftp://x")
    assert not is_uri("a/b://c")
    assert not is_uri("photo: one.jpg")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://h/d/p.jpg?sv=1&sig=SECRET", "https://h/d/p.jpg?..."),
        ("HTTP://h/p?SECRET", "HTTP://h/p?..."),
        ("http://h/p", "http://h/p"),
        ("https://me:SECRET@h/p@q?SECRET", "https://...@h/p@q?..."),
        ("s3://b/what?", "s3://b/what?"),
        ("http?x", "http?x"),
    ],
)
def test_what_may_be_secret_is_not_shown(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown
