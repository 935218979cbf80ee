"""Pages through libcurl: like boto3's, signed so that a real server believes it, and given up where odd."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import NoCredentialsError

from ossmount.config import StoreSettings
from ossmount.errors import AccessDenied, StoreError, StoreUnavailable, Throttled
from ossmount.stores.addresses import Address
from ossmount.stores.s3 import S3Store
from ossmount.stores.s3_pages import MISTRUST_AFTER, QuickPages
from tests.servers.http import RangeServer, leading_to
from tests.servers.process import closed_port
from tests.servers.s3 import S3Server
from tests.servers.tls import Authority

ODD = ["a b+c%2F", "a//b", "é\U0001f600", "line\nbreak", "x&<>'\"", "~-_.!*()", "a/", "a", "z%00"]
REQUEST: Mapping[str, Any] = {"Bucket": "b", "Prefix": "p", "MaxKeys": 1000}
SIGNED = Credentials("AKIDEXAMPLE", "secret", "session")
PAGE = (
    b"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>p</Key>"
    b"<LastModified>2024-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>3</Size></Contents>"
    b"</ListBucketResult>"
)


def quick(
    url: str, credentials: Credentials | None = None, ca: str | None = None, **settings: Any
) -> QuickPages:
    options = {"no_sign_request": credentials is None, "connect_timeout": 2.0, **settings}
    return QuickPages(
        "b", lambda: Address(url, "us-east-1", ca), lambda: credentials, StoreSettings(**options)
    )


@pytest.mark.parametrize("asked", [{}, {"StartAfter": "a//"}, {"Delimiter": "/"}, {"MaxKeys": 2}])
def test_a_server_that_checks_signatures_gives_what_boto3_gets(
    s3_gateway: S3Server, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    for name, value in s3_gateway.environment().items():
        monkeypatch.setenv(name, value)
    client = s3_gateway.client()
    if "pages" not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="pages")
        for key in ("a b+c%2F", "é\U0001f600", "x&<>'\"", "~-_.!*()", "d/e", "d/f"):
            client.put_object(Bucket="pages", Key=key, Body=b"12")
    store = S3Store("pages", StoreSettings(endpoint_url=s3_gateway.endpoint_url, addressing_style="path"))
    pages = QuickPages("pages", store.address, store._session.get_credentials, store._settings)
    request = {"Bucket": "pages", "Prefix": "", "MaxKeys": 1000, **asked}
    read = pages.page(request)
    assert read is not None
    answer = client.list_objects_v2(**request)
    assert list(read[0].keys) == [row["Key"] for row in answer.get("Contents", [])]
    assert list(read[0].prefixes) == [row["Prefix"] for row in answer.get("CommonPrefixes", [])]
    assert bool(read[1]) == answer["IsTruncated"]
    pages.close()
    store.close()


@pytest.mark.parametrize("name", ODD)
def test_odd_names_arrive_as_they_are(http_ranges: RangeServer, name: str) -> None:
    pages = quick(f"{http_ranges.url}/b")
    pages.page({**REQUEST, "Prefix": name, "StartAfter": name})
    path = http_ranges.requests[-1][1]
    from urllib.parse import parse_qs, urlsplit

    assert urlsplit(path).path == "/b"
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    assert query["prefix"] == query["start-after"] == [name]
    pages.close()


def test_headers_and_the_root_of_a_virtual_host(http_ranges: RangeServer) -> None:
    pages = quick(http_ranges.url, SIGNED)
    pages.page({**REQUEST, "RequestPayer": "requester"})
    _, path, headers = http_ranges.requests[-1]
    assert path == "/?list-type=2&encoding-type=url&prefix=p&max-keys=1000"
    assert headers["x-amz-request-payer"] == "requester"
    assert headers["x-amz-security-token"] == "session"
    assert "x-amz-request-payer" in headers["authorization"]
    pages.close()


def test_what_is_no_page_is_left_to_boto3_and_soon_not_tried(http_ranges: RangeServer) -> None:
    pages = quick(f"{http_ranges.url}/b")
    for _ in range(MISTRUST_AFTER + 2):
        assert pages.page(REQUEST) is None
    assert len(http_ranges.requests) == MISTRUST_AFTER


@pytest.mark.parametrize("transport", ["native", "sdk"])
def test_a_listing_that_is_no_xml_is_told_in_one_line(
    http_ranges: RangeServer, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.servers.http.respond", lambda *_: (206, b"<p>Log in<br>first", {}))
    store = S3Store("b", leading_to(http_ranges.url, transport))
    with pytest.raises(StoreError, match=r"^s3://b: the answer is not S3's: [^\n]*; check --endpoint-url$"):
        list(store.list("p"))
    store.close()


def test_a_page_restores_trust(http_ranges: RangeServer) -> None:
    pages = quick(f"{http_ranges.url}/b")
    path = "/b?list-type=2&encoding-type=url&prefix=p&max-keys=1000"
    for _ in range(MISTRUST_AFTER):
        assert pages.page({**REQUEST, "Prefix": "other"}) is None if _ else True
        http_ranges.put(path, PAGE)
        assert pages.page(REQUEST) is not None


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b"<Error><Code>SlowDown</Code></Error>", Throttled),
        (429, b"", Throttled),
        (500, b"<Error><Code>InternalError</Code></Error>", StoreUnavailable),
        (502, b"<html>bad gateway</html>", StoreUnavailable),
    ],
)
def test_a_busy_store_is_not_asked_twice(
    http_ranges: RangeServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    error: type[Exception],
) -> None:
    monkeypatch.setattr("tests.servers.http.respond", lambda *_: (status, body, {}))
    with pytest.raises(error) as caught:
        quick(f"{http_ranges.url}/b").page(REQUEST)
    assert type(caught.value) is error
    assert len(http_ranges.requests) == 1


def test_nobody_there_and_broken_answers_are_unavailable(http_ranges: RangeServer) -> None:
    with pytest.raises(StoreUnavailable):
        quick(f"http://127.0.0.1:{closed_port()}/b").page(REQUEST)
    http_ranges.short = 2
    with pytest.raises(StoreUnavailable):
        quick(f"{http_ranges.url}/b").page(REQUEST)


def test_no_credentials_and_ones_that_cannot_be_renewed() -> None:
    with pytest.raises(AccessDenied):
        quick("http://127.0.0.1:1/b", None, no_sign_request=False).page(REQUEST)

    class Expired:
        def get_frozen_credentials(self) -> None:
            raise NoCredentialsError

    with pytest.raises(AccessDenied):
        quick("http://127.0.0.1:1/b", Expired()).page(REQUEST)  # type: ignore[arg-type]


def test_a_proxy_is_used_unless_the_host_is_excepted(
    http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", http_ranges.url)
    quick("http://store.invalid/b").page(REQUEST)
    assert http_ranges.requests[-1][1].startswith("http://store.invalid/b?list-type=2")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    quick(f"{http_ranges.url}/b").page(REQUEST)
    assert http_ranges.requests[-1][1].startswith("/b?")


def test_a_page_comes_through_tls_from_whom_the_authority_vouches_for(
    http_ranges: RangeServer,
    behind_tls: Callable[[str], str],
    tls_authority: Authority,
    strange_authority: Authority,
) -> None:
    http_ranges.put("/b?list-type=2&encoding-type=url&prefix=p&max-keys=1000", PAGE)
    url = f"{behind_tls(http_ranges.url)}/b"
    read = quick(url, ca=str(tls_authority.file)).page(REQUEST)
    assert read is not None
    assert list(read[0].keys) == ["p"]
    asked = len(http_ranges.requests)
    assert quick(url, ca=str(strange_authority.file)).page(REQUEST) is None, "boto3 says why"
    assert len(http_ranges.requests) == asked


def test_a_name_that_no_url_can_carry_is_left_to_boto3() -> None:
    began = time.monotonic()
    assert quick("http://127.0.0.1:1/b").page({**REQUEST, "StartAfter": "\ud800"}) is None
    assert time.monotonic() - began < 60
