"""A server whose body trickles holds nobody for ever, whichever client it came through."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ossmount.errors import StoreUnavailable
from ossmount.model import ObjectId
from ossmount.stores.http import HttpStore
from ossmount.stores.oss import OssStore
from ossmount.stores.s3 import S3Store
from tests.servers.http import leading_to

LENGTH = 500


class Trickling(BaseHTTPRequestHandler):
    """Gives a byte now and then, far more often than the time-out."""

    stopped = threading.Event()

    def do_GET(self) -> None:
        self.send_response(206)
        self.send_header("Content-Length", str(LENGTH))
        self.send_header("Content-Range", f"bytes 0-{LENGTH - 1}/{LENGTH}")
        self.end_headers()
        for _ in range(LENGTH):
            if not self.stopped.wait(0.02):
                self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def trickling() -> Iterator[str]:
    Trickling.stopped.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Trickling)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # connections that were given up
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Trickling.stopped.set()
    server.shutdown()
    server.server_close()


@pytest.mark.server
@pytest.mark.parametrize("kind", ["http native", "s3 native", "s3 sdk", "oss native", "oss sdk"])
def test_a_read_is_given_up(trickling: str, kind: str) -> None:
    scheme, transport = kind.split()
    stores = {"http": HttpStore, "s3": S3Store, "oss": OssStore}
    asked = replace(leading_to(trickling, transport), request_timeout=0.3)
    store = stores[scheme](trickling if scheme == "http" else "bkt", asked)
    with pytest.raises(StoreUnavailable):
        store.get_range(ObjectId(store.uri, "x", "", LENGTH), 0, LENGTH)
    store.close()


@pytest.mark.server
@pytest.mark.parametrize("kind", ["s3", "oss"])
def test_a_listing_is_given_up(trickling: str, kind: str) -> None:
    store = {"s3": S3Store, "oss": OssStore}[kind]("bkt", replace(leading_to(trickling), request_timeout=0.3))
    with pytest.raises(StoreUnavailable, match="Less than 16384 bytes/sec"):
        list(store.list("p/"))
    store.close()
