"""A relay between a client and a server: counts HTTP requests, and fails on command.

It passes bytes as they are, so signatures stay right (the client signs the relay's host and port). What may
live here: what can go wrong between two machines. Touch it when tests need another kind of trouble.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.[01]\r\n")
_LISTING = re.compile(rb"[?&](list-type=|prefix=|delimiter=|max-keys=|marker=)")
_CHUNK = 1 << 16


@dataclass(slots=True)
class Relay:
    """``endpoint_url`` leads to the server behind. The flags may be turned at any time."""

    target: tuple[str, int]
    endpoint_url: str = ""
    down: bool = False
    """Connections are closed as soon as they are made, and those that are open break at their next byte."""
    silent: bool = False
    """Requests are taken and never answered."""
    delay: float = 0.0
    """Seconds before a request goes on."""
    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    """Method and path of every request."""
    last: float = 0.0
    """``time.monotonic()`` of the last request."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> dict[str, int]:
        """Requests so far: GET, HEAD, LIST, and the other methods by name; absent means none."""
        with self._lock:
            return dict(self.counts)

    def count(self, data: bytes) -> int:
        """Counts the request lines in ``data``; gives how many there are."""
        found = _REQUEST.findall(data)
        with self._lock:
            for method, path in found:
                kind = "LIST" if method == b"GET" and _LISTING.search(path) else method.decode()
                self.counts[kind] += 1
                self.lines.append(f"{method.decode()} {path.decode(errors='replace')}")
                self.last = time.monotonic()
        return len(found)


@contextlib.contextmanager
def relay_to(endpoint_url: str) -> Iterator[Relay]:
    """A relay to the server at ``endpoint_url``, until the block ends."""
    parts = urlsplit(endpoint_url)
    relay = Relay((str(parts.hostname), int(parts.port or 80)))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        relay.endpoint_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        acceptor = threading.Thread(target=_accept, args=(listener, relay), daemon=True)
        acceptor.start()
        try:
            yield relay
        finally:
            relay.down = True
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()


def _accept(listener: socket.socket, relay: Relay) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        if relay.down:
            client.close()
            continue
        threading.Thread(target=_serve, args=(client, relay), daemon=True).start()


def _serve(client: socket.socket, relay: Relay) -> None:
    with client, contextlib.suppress(OSError), socket.create_connection(relay.target) as server:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_answers, args=(server, client, relay), daemon=True)
        back.start()
        _requests(client, server, relay)
        _shut(server)
        back.join()


def _requests(client: socket.socket, server: socket.socket, relay: Relay) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(_CHUNK):
            found = relay.count(data)
            if relay.down:
                return
            if relay.silent:
                continue
            if relay.delay and found:
                time.sleep(relay.delay)
            server.sendall(data)


def _answers(server: socket.socket, client: socket.socket, relay: Relay) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(_CHUNK):
            if relay.down:
                break
            client.sendall(data)
    _shut(client)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
