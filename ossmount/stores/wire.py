"""A GET and the beginning of its answer as bytes on the wire: HTTP/1.1 (RFC 9112), and nothing else.

What may live here: pure functions of requests and answers. No sockets, no clock but that of a signature.
Touch it when a server is met that answers in another way; whatever is not plain and expected is refused here,
and then asked for by a library.
"""

from __future__ import annotations

import functools
import re
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from ossmount.stores.describing import GetRequest
from ossmount.stores.etags import plain_etag
from ossmount.stores.s3_signing import signature_lines

LARGEST_HEAD = 32 << 10
"""Bytes of an answer before its body; what S3 and OSS send is below 2 KiB."""

_END = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: |\r\n)")
_FIELDS = re.compile(
    rb"\r\n(content-length|content-range|etag|connection|transfer-encoding):([^\r]*)", re.IGNORECASE
)
"""Those that matter; the rest is not looked at."""
_MOST_DIGITS = 19
"""Of a length that is believed: those of 2^63."""

_AFTER_AUTHORITY = re.compile(r"[/?#]")
_UNPLAIN = re.compile(r"[^!-~]|#")
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
    return _place_of(_cut(url)[0])


def request_bytes(request: GetRequest) -> bytes:
    """The request as it is sent, signed where it has to be. Raises NotPlain."""
    origin, target = _cut(request.url)
    lines = [f"Host: {origin.rpartition('/')[2]}", *request.headers]
    shown = request.signing[:2] if request.signing else ()  # region and access key will be in a line, too
    if _UNPLAIN.search(target) or _UNPLAIN_LINE.search("".join((*lines, *shown))):
        raise NotPlain(request.url)
    if request.signing is not None:
        lines += signature_lines(target, lines, request.signing, time.time())
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "User-Agent: ossmount", "", ""]).encode()


def _cut(url: str) -> tuple[str, str]:
    """Scheme and authority, which many URLs have in common, and path and query."""
    mark = _AFTER_AUTHORITY.search(url, url.find("://") + 3)
    end = mark.start() if mark else len(url)
    target = url[end:]
    return url[:end], target if target.startswith("/") else f"/{target}"


@functools.lru_cache(64)
def _place_of(origin: str) -> Place | None:
    parts = urlsplit(origin)
    if parts.scheme != "http" or not parts.hostname or "@" in parts.netloc:
        return None
    return Place(parts.hostname, parts.port or 80)


def parse_head(data: bytes) -> tuple[Head, bytes] | None:
    """The head of the answer that ``data`` begins, and what of the body came with it; None: there is more
    to come of it. Raises NotPlain, for an answer without a length too.
    """
    end = data.find(_END)
    if end < 0:
        if len(data) > LARGEST_HEAD:
            raise NotPlain("the head has no end")
        return None
    status = _STATUS_LINE.match(data)
    fields = [(name.lower(), value.strip()) for name, value in _FIELDS.findall(data, 0, end)]
    headers = dict(fields)
    lengths = {value for name, value in fields if name == b"content-length"}
    length = lengths.pop() if len(lengths) == 1 else b""
    believable = length.isdigit() and len(length) <= _MOST_DIGITS
    if status is None or not believable or b"transfer-encoding" in headers:
        raise NotPlain(f"an answer that begins with {data[:80]!r}")
    keep = status[1] == b"1" and headers.get(b"connection", b"").lower() != b"close"
    etag, content_range = (headers.get(name, b"").decode("latin-1") for name in (b"etag", b"content-range"))
    return Head(int(status[2]), int(length), plain_etag(etag), content_range, keep), data[end + len(_END) :]
