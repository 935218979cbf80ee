"""Reading the XML of ListObjectsV2."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.errors import StoreError, StoreUnavailable
from ossmount.model import ObjectInfo
from ossmount.stores.oss import OssStore
from ossmount.stores.oss_listing import page_parameters, parse_any_page, parse_page
from tests.servers.http import RangeServer, leading_to
from tests.servers.oss_server_answers import ListedObject, Listing, listing_v2

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=50)
@given(st.lists(st.tuples(TEXT, st.integers(0, 1 << 40)), max_size=5), st.lists(TEXT, max_size=3))
def test_names_survive(rows: list[tuple[str, int]], prefixes: list[str]) -> None:
    objects = [ListedObject(key, size, "ABC", 1_700_000_000.0) for key, size in rows]
    listing = Listing("bkt", "", "/", "", 1000, objects, prefixes, "next")
    for parse in (parse_page, parse_any_page):
        found = parse(listing_v2(listing, "url", "", "token=").body, "oss://bkt")
        assert list(found.page.objects()) == [
            ObjectInfo(key, size, "ABC", 1_700_000_000_000_000_000) for key, size in rows
        ]
        assert list(found.page.prefixes) == prefixes
        assert found.token == "token="


def test_the_last_page_of_a_namespaced_document() -> None:
    document = (
        b'<ListBucketResult xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com"><IsTruncated>false</IsTruncated>'
        b"<NextContinuationToken>left over</NextContinuationToken><Contents><Key>a%2F%20</Key>"
        b'<LastModified>2024-05-06T07:08:09.123Z</LastModified><ETag>"x"</ETag><Size>0</Size></Contents>'
        b"</ListBucketResult>"
    )
    found = parse_page(document, "oss://bkt")
    assert list(found.page.objects()) == [ObjectInfo("a%2F%20", 0, "x", 1_714_979_289_123_000_000)]
    assert found.token == ""


@pytest.mark.parametrize("document", [b"", b"<html>", b"<html/>"])
def test_another_answer_is_no_listing(document: bytes) -> None:
    with pytest.raises(StoreUnavailable, match="oss://bkt"):
        parse_page(document, "oss://bkt")


@pytest.mark.server
@pytest.mark.parametrize("token", [b"", b"<NextContinuationToken></NextContinuationToken>"])
def test_a_listing_that_goes_on_and_does_not_say_how_is_not_complete(
    http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch, token: bytes
) -> None:
    page = (
        b"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>%s<Contents><Key>a"
        b'</Key><LastModified>2024-05-06T07:08:09.000Z</LastModified><ETag>"x"</ETag><Type>Normal</Type>'
        b"<Size>0</Size><StorageClass>Standard</StorageClass></Contents></ListBucketResult>"
    ) % token
    for parse in (parse_page, parse_any_page):
        with pytest.raises(StoreError, match=r"oss://bkt: .*ListObjectsV2; name the objects with --manifest"):
            parse(page, "oss://bkt")
    monkeypatch.setattr("tests.servers.http.respond", lambda *_: (200, page, {}))
    for transport in ("native", "sdk"):
        with pytest.raises(StoreError, match=r"oss://bkt: .*(ListObjectsV2|not OSS's answer)"):
            list(OssStore("bkt", leading_to(http_ranges.url, transport)).list(""))


def test_a_token_replaces_the_start() -> None:
    assert page_parameters("p", "s", "", "")["start-after"] == "s"
    assert "start-after" not in page_parameters("p", "s", "", "t")
    assert page_parameters("p", "s", "", "t")["continuation-token"] == "t"
