"""A small HTTP server with ranges, conditions and the bad manners of real ones, in this process.

Touch it when a web server is met that answers ranges in yet another way.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ossmount.config import StoreSettings

FIRST_MODIFIED = 1_700_000_000
"""Last-Modified of the first object, in seconds; each put is a minute later."""

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(slots=True)
class RangeServer:
    """``put`` objects, then read ``url`` + path. The flags change how the server answers."""

    url: str = ""
    etags: str = "strong"
    """``strong``, ``weak``, or ``none``."""
    ranges: bool = True
    dates: bool = True
    status: int = 0
    """Answer everything with this status, unless 0."""
    retry_after: str = ""
    """Say so in such an answer, unless ""."""
    short: int = 0
    """Break bodies off this many bytes early."""
    shift: int = 0
    """Answer with bytes that begin so much later than those that were asked for."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers (lower case) of every request."""
    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)

    def put(self, path: str, data: bytes) -> None:
        """Puts ``data`` under ``path`` (begins with a slash), a minute after whatever was put before."""
        self.objects[path] = data, FIRST_MODIFIED + 60 * len(self.requests) + 60 * len(self.objects)

    def validators(self, path: str) -> dict[str, str]:
        """The headers that identify the object under ``path``."""
        data, modified = self.objects[path]
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"Last-Modified": formatdate(modified, usegmt=True)} if self.dates else {}
        if self.etags != "none":
            headers["ETag"] = etag if self.etags == "strong" else f"W/{etag}"
        return headers


def leading_to(endpoint_url: str | None, transport: str = "native") -> StoreSettings:
    """Settings with which S3 and OSS, too, read ``/bucket/key`` of such a server."""
    return StoreSettings(
        endpoint_url=endpoint_url,
        region="here",
        no_sign_request=True,
        addressing_style="path",
        transport=transport,
        connect_timeout=5,
        request_timeout=20,
    )


@contextlib.contextmanager
def range_server() -> Iterator[RangeServer]:
    """A server on a free loopback port, with one thread for each connection."""
    state = RangeServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(state: RangeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_CONNECT(self) -> None:
            self._answer(with_body=False)

        def _answer(self, with_body: bool) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append((self.command, self.path, headers))
            status, body, extra = respond(state, self.path, headers)
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body[: len(body) - state.short])
            if state.short:
                self.close_connection = True

    return Handler


def respond(state: RangeServer, path: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of the answer."""
    if state.status:
        return state.status, b"as told", {"Retry-After": state.retry_after} if state.retry_after else {}
    if path not in state.objects:
        return 404, b"not here", {}
    if not _condition_holds(state, path, headers):
        return 412, b"changed", {}
    data, validators = state.objects[path][0], state.validators(path)
    span = _RANGE.fullmatch(headers.get("range", "")) if state.ranges else None
    if span is None:
        return 200, data, validators
    first, last = int(span[1]) + state.shift, min(int(span[2]) + state.shift, len(data) - 1)
    if first >= len(data):
        return 416, b"", {"Content-Range": f"bytes */{len(data)}"}
    content_range = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
    return 206, data[first : last + 1], validators | content_range


def _condition_holds(state: RangeServer, path: str, headers: dict[str, str]) -> bool:
    etag = state.validators(path).get("ETag", "")
    if "if-match" in headers:
        return headers["if-match"] == etag and not etag.startswith("W/")
    if since := headers.get("if-unmodified-since"):
        return state.objects[path][1] <= parsedate_to_datetime(since).timestamp()
    return True
