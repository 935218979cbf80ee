"""Requests and heads as bytes: what is sent is one request, and what is not plain is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.model import ObjectId
from ossmount.stores.describing import GetRequest, get_request, url_path
from ossmount.stores.etags import is_weak
from ossmount.stores.wire import LARGEST_HEAD, Head, NotPlain, Place, parse_head, place_of, request_bytes

TARGET = ObjectId("s3://b", "k", "abc", 1000)
HEAD = (
    b'HTTP/1.1 206 Partial Content\r\nServer: x\r\nETag: "abc"\r\n'
    b"Content-Length: 12\r\nContent-Range: bytes 0-11/1000\r\n\r\n"
)
WHOLE = Head(206, 12, "abc", "bytes 0-11/1000", True)


def head(*lines: str, status: str = "HTTP/1.1 206 Partial Content") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://b.oss-cn-hangzhou-internal.aliyuncs.com/k", ("b.oss-cn-hangzhou-internal.aliyuncs.com", 80)),
        ("http://127.0.0.1:9000/b/k?x=1", ("127.0.0.1", 9000)),
        ("http://[::1]:9000/b/k", ("::1", 9000)),
        ("https://s3.eu-west-1.amazonaws.com/b/k", None),
        ("http://user:secret@host/k", None),
    ],
)
def test_where_a_url_leads(url: str, place: tuple[str, int] | None) -> None:
    assert place_of(url) == (place and Place(*place))


def test_a_request_asks_for_a_range_of_one_version() -> None:
    request = get_request("http://h:9000/b/k%20x?versionId=1", TARGET, 10, 20)
    first, *lines = request_bytes(request).decode().split("\r\n")
    assert first == "GET /b/k%20x?versionId=1 HTTP/1.1"
    assert sorted(lines) == [
        "", "", "Host: h:9000", 'If-Match: "abc"', "Range: bytes=10-29", "User-Agent: ossmount",
    ]  # fmt: skip


def test_a_signature_covers_what_is_sent() -> None:
    request = get_request(
        "http://h:9000/b/k", TARGET, 10, 20, ["x-amz-security-token: t"], ("eu-west-1", "AK", "SK")
    )
    lines = dict(line.split(": ", 1) for line in request_bytes(request).decode().split("\r\n")[1:-2])
    authorization = lines["Authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AK/")
    assert "/eu-west-1/s3/aws4_request" in authorization
    signed = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    unsigned = {name.lower() for name in lines} - set(signed)
    assert unsigned == {"authorization", "user-agent"}


@given(key=st.text(min_size=1), etag=st.text(max_size=20), token=st.text(max_size=20))
def test_whatever_the_key_it_is_one_request(key: str, etag: str, token: str) -> None:
    target = ObjectId("s3://b", key, etag, 1000)
    url = f"http://h/b/{url_path(key.encode('utf-8', 'replace').decode())}"
    headers = [f"x-amz-security-token: {token}"]
    if not is_weak(etag) and not etag.isprintable():
        with pytest.raises(ValueError, match="is no entity tag"):
            get_request(url, target, 0, 1000, headers)
        return
    request = get_request(url, target, 0, 1000, headers)
    try:
        sent = request_bytes(request)
    except NotPlain:
        return
    assert sent.count(b"\r\n\r\n") == 1
    assert sent.endswith(b"\r\n\r\n")
    lines = sent[:-4].split(b"\r\n")
    assert len(lines) == 1 + len(request.headers) + 2
    assert lines[0].count(b" ") == 2
    assert all(32 <= byte < 127 for line in lines for byte in line)


@pytest.mark.parametrize("url", ["http://h/b/k x", "http://h/b/k\u00fc", "http://h/b/k\r\nX: y"])
def test_what_is_not_encoded_is_refused(url: str) -> None:
    with pytest.raises(NotPlain):
        request_bytes(GetRequest(url, [], "", 0, 1, False, None, None))


@pytest.mark.parametrize("signing", [("r\r\nX: y", "AK", "S"), ("r", "A\r\nX: y", "S"), ("r", "\u00e4", "S")])
def test_what_would_not_be_one_line_of_a_signature_is_refused(signing: tuple[str, str, str]) -> None:
    with pytest.raises(NotPlain):
        request_bytes(GetRequest("http://h/b/k", [], "", 0, 1, False, signing, None))


@given(st.integers(0, len(HEAD)), st.binary(max_size=30))
def test_a_head_is_the_same_in_pieces(cut: int, body: bytes) -> None:
    early = parse_head(HEAD[:cut])
    assert early == (None if cut < len(HEAD) else (WHOLE, b""))
    assert parse_head(HEAD + body) == (WHOLE, body)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (head("content-length:0", "connection: Close"), Head(206, 0, "", "", False)),
        (head("Content-Length: 5", status="HTTP/1.0 200 OK"), Head(200, 5, "", "", False)),
        (head("Content-Length: 5", 'ETag: W/"x"', status="HTTP/1.1 503"), Head(503, 5, "W/x", "", True)),
        (head("Content-Length: 5", "Content-Length: 5"), Head(206, 5, "", "", True)),
    ],
)
def test_heads(data: bytes, expected: Head) -> None:
    assert parse_head(data) == (expected, b"")


@pytest.mark.parametrize(
    "data",
    [
        head("Transfer-Encoding: chunked"),
        head("Transfer-Encoding: chunked", "Content-Length: 5"),
        head(),
        head("Content-Length: -5"),
        head(f"Content-Length: {5:05000}"),
        head("Content-Length: 5", "Content-Length: 6"),
        head("Content-Length: 5", status="HTTP/2 206"),
        head("Content-Length: 5", status="220 smtp.example"),
        b"x" * (LARGEST_HEAD + 1),
    ],
)
def test_what_is_not_plain_is_refused(data: bytes) -> None:
    with pytest.raises(NotPlain):
        parse_head(data)


@given(st.binary(max_size=200))
def test_anything_is_a_head_or_more_to_come_or_refused(data: bytes) -> None:
    try:
        found = parse_head(data)
    except NotPlain:
        return
    assert (found is None) == (b"\r\n\r\n" not in data)
