"""Listings that lead nowhere, and rows that no index can hold."""

from __future__ import annotations

import re

import pytest

from ossmount.config import StoreSettings
from ossmount.errors import StoreError, Unlistable
from ossmount.model import ListPage
from ossmount.stores.oss import OssStore
from ossmount.stores.oss_listing import parse_page
from ossmount.stores.page_order import PageOrder
from ossmount.stores.s3 import S3Store
from tests.servers.http import RangeServer, leading_to


def page(*keys: str, size: int = 1, mtime_ns: int = 0, prefixes: tuple[str, ...] = ()) -> ListPage:
    count = len(keys)
    return ListPage(list(keys), [size] * count, ["e"] * count, [mtime_ns] * count, prefixes)


def follow(*pages: tuple[ListPage, str]) -> list[ListPage]:
    order = PageOrder("s3://b")
    return [order.follow(*one) for one in pages]


@pytest.mark.parametrize(
    "pages",
    [
        [(page("a", "b"), "1"), (page("a", "b"), "1")],
        [(page("a", "b"), "1"), (page("a", "b"), "")],
        [(page("a"), "1"), (page("a"), "2")],
        [(page("b", "a"), "1")],
        [(page("a", "b"), "1"), (page("c", "a"), "")],
        [(page(), "1"), (page(), "1")],
    ],
)
def test_pages_that_lead_back_are_no_listing(pages: list[tuple[ListPage, str]]) -> None:
    with pytest.raises(Unlistable, match=r"do not follow each other.*--manifest"):
        follow(*pages)


@pytest.mark.parametrize(
    "pages",
    [
        [(page("a", "b"), "1"), (page("b", "c"), "2"), (page(), "3"), (page("d"), "")],
        [(page(prefixes=("a/",)), "1"), (page(prefixes=("b/",)), "2")],
        [(page("b", "a"), "")],
        [(page("\udc80", "\U0001f600"), "1"), (page("\U0001f601"), "")],
        [(page("\udced\udca0", "\U0001f600"), "1")],
    ],
)
def test_pages_that_follow_each_other(pages: list[tuple[ListPage, str]]) -> None:
    assert follow(*pages) == [one for one, _ in pages]


@pytest.mark.parametrize("size", [-1, 1 << 63])
def test_a_size_that_is_none(size: int) -> None:
    with pytest.raises(StoreError, match=f"'a' has {size} bytes"):
        follow((page("a", size=size), ""))


def test_a_time_that_no_index_holds_is_none() -> None:
    year_1, latest = -62_135_596_800_000_000_000, (1 << 63) - 1
    found = follow((page("a", mtime_ns=year_1), "t"), (page("b", mtime_ns=latest), ""))
    assert [one.mtimes_ns for one in found] == [[0], [latest]]


ROW = (
    b"<Contents><Key>a</Key><LastModified>2024-05-06T07:08:09.000Z</LastModified><ETag>e</ETag>"
    b"<Type>Normal</Type><Size>1</Size><StorageClass>Standard</StorageClass></Contents>"
)


def document(row: bytes, *, more: bool = False) -> bytes:
    ending = b"<NextContinuationToken>again</NextContinuationToken>" if more else b""
    return (
        b"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated>%s%s"
        b"</ListBucketResult>"
    ) % (b"true" if more else b"false", ending, row)


@pytest.fixture(params=["s3-native", "s3-sdk", "oss-native", "oss-sdk"])
def store(
    request: pytest.FixtureRequest, http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> S3Store | OssStore:
    kind, transport = request.param.split("-")
    if kind == "oss":
        return OssStore("bkt", leading_to(http_ranges.url, transport))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = StoreSettings(
        endpoint_url=http_ranges.url, region="r", no_sign_request=True, addressing_style="path",
        transport=transport, retries=0,
    )  # fmt: skip
    return S3Store("bkt", settings)


@pytest.mark.server
def test_a_server_that_ignores_tokens_is_told(
    store: S3Store | OssStore, http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.servers.http.respond", lambda *_: (200, document(ROW, more=True), {}))
    with pytest.raises(Unlistable, match="do not follow each other"):
        list(store.list(""))
    assert len(http_ranges.requests) == 2


@pytest.mark.server
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<Size>1</Size>", b""),
        (b"<Size>1</Size>", b"<Size></Size>"),
        (b"<Key>a</Key>", b""),
        (b"2024-05-06T07:08:09.000Z", b"yesterday"),
        (b"<Size>1</Size>", b"<Size>%s</Size>" % (b"9" * 5000)),
    ],
)
def test_a_row_that_is_none_is_an_error_of_the_store(
    store: S3Store | OssStore, monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes
) -> None:
    monkeypatch.setattr("tests.servers.http.respond", lambda *_: (200, document(ROW.replace(old, new)), {}))
    with pytest.raises(StoreError, match=re.escape(store.uri)):
        list(store.list(""))


def test_a_page_that_breaks_off_between_two_rows_is_not_the_last() -> None:
    whole = document(ROW + ROW.replace(b"<Key>a<", b"<Key>b<"))
    assert list(parse_page(whole, "oss://bkt").page.keys) == ["a", "b"]
    with pytest.raises(StoreError, match="is not XML"):
        parse_page(whole[: whole.rindex(b"<Contents>")], "oss://bkt")
