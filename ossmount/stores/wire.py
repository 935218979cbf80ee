"""A GET and the beginning of its answer as bytes on the wire: HTTP/1.1 (RFC 9112), and nothing else.

What may live here: pure functions of requests and answers. No sockets, no clock but that of a signature.
Touch it when a server is met that answers in another way; whatever is not plain and expected is refused here,
and then asked for by a library.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from ossmount.stores.describing import GetRequest
from ossmount.stores.etags import plain_etag

LARGEST_HEAD = 32 << 10
"""Bytes of an answer before its body; what S3 and OSS send is below 2 KiB."""

_END = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: |$)")
_UNPLAIN = re.compile(r"[^!-~]")
_UNPLAIN_LINE = re.compile(r"[^ -~]")


class NotPlain(ValueError):
    """A request or an answer that is left to a library."""


class Place(NamedTuple):
    """Where a connection leads."""

    host: str
    port: int


class Head(NamedTuple):
    """What an answer says before its body of ``length`` bytes; ``keep``: another may follow it."""

    status: int
    length: int
    etag: str
    content_range: str
    keep: bool


def place_of(url: str) -> Place | None:
    """Where a URL of plain HTTP leads; None for any other."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or "@" in parts.netloc:
        return None
    return Place(parts.hostname, parts.port or 80)


def request_bytes(request: GetRequest) -> bytes:
    """The request as it is sent, signed where it has to be. Raises NotPlain."""
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = dict(line.split(": ", 1) for line in request.headers)
    headers["Host"] = parts.netloc
    if request.signing is not None:
        headers = _signed(request.url, headers, request.signing)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if _UNPLAIN.search(target) or any(_UNPLAIN_LINE.search(line) for line in lines):
        raise NotPlain(request.url)
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "User-Agent: ossmount", "", ""]).encode()


def parse_head(data: bytes) -> tuple[Head, bytes] | None:
    """The head of the answer that ``data`` begins, and what of the body came with it; None: there is more
    to come of it. Raises NotPlain, for an answer without a length too.
    """
    end = data.find(_END)
    if end < 0:
        if len(data) > LARGEST_HEAD:
            raise NotPlain("the head has no end")
        return None
    first, *lines = data[:end].split(b"\r\n")
    status = _STATUS_LINE.match(first)
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    headers = dict(fields)
    lengths = {value for name, value in fields if name == b"content-length"}
    length = lengths.pop() if len(lengths) == 1 else b""
    if status is None or not length.isdigit() or b"transfer-encoding" in headers:
        raise NotPlain(f"an answer that begins with {first[:80]!r}")
    keep = status[1] == b"1" and headers.get(b"connection", b"").lower() != b"close"
    etag, content_range = (headers.get(name, b"").decode("latin-1") for name in (b"etag", b"content-range"))
    return Head(int(status[2]), int(length), plain_etag(etag), content_range, keep), data[end + len(_END) :]


def _signed(url: str, headers: dict[str, str], signing: tuple[str, str, str]) -> dict[str, str]:
    # Only stores of botocore's ask for this: a process without them does without its 20 MB.
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    region, access, secret = signing
    request = AWSRequest("GET", url, headers)
    S3SigV4Auth(Credentials(access, secret), "s3", region).add_auth(request)
    return dict(request.headers.items())
