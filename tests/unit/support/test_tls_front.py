"""The front keeps to what TCP does: halves close one by one, and all of it ends with its block."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.servers.process import closed_port
from tests.servers.tls import Authority, tls_front

pytestmark = pytest.mark.server

DATA = bytes(range(256)) * 400
"""Several records, and less than a connection holds."""


@pytest.fixture
def plain() -> Iterator[socket.socket]:
    """A listening socket, the server behind the front."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def connected(authority: Authority, front: str, host: str = "127.0.0.1") -> ssl.SSLSocket:
    address = (host, urlsplit(front).port or 0)
    context = ssl.create_default_context(cafile=str(authority.file))
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # set by some builds of Python 3.11, not by others
    plain = socket.create_connection(address, timeout=10)
    return context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)


def accepted(listener: socket.socket) -> socket.socket:
    server, _ = listener.accept()
    server.settimeout(10)
    return server


def all_of(end: socket.socket) -> bytes:
    return b"".join(iter(lambda: end.recv(1 << 16), b""))


@contextlib.contextmanager
def both_ends(
    authority: Authority, plain: socket.socket, host: str = "127.0.0.1"
) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """A client of a front of ``plain``, and the server's end of its connection."""
    with (
        tls_front(authority, url_of(plain)) as front,
        connected(authority, front, host) as client,
        accepted(plain) as server,
    ):
        yield client, server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_bytes_go_both_ways(tls_authority: Authority, plain: socket.socket, host: str) -> None:
    with both_ends(tls_authority, plain, host) as (client, server):
        client.sendall(b"ask")
        assert server.recv(10) == b"ask"
        server.sendall(b"answer")
        assert client.recv(10) == b"answer"


def test_a_client_that_has_said_all_is_answered(tls_authority: Authority, plain: socket.socket) -> None:
    with both_ends(tls_authority, plain) as (client, server):
        client.sendall(b"all that it says")
        with pytest.raises(TimeoutError):  # it says its end, and waits for the server's
            say_end(client)
        assert all_of(server) == b"all that it says"
        server.sendall(b"answer")
        server.close()
        assert client.recv(10) == b"answer"


def say_end(client: ssl.SSLSocket) -> None:
    client.settimeout(0.05)
    try:
        client.unwrap()
    finally:
        client.settimeout(10)


def test_a_server_that_has_said_all_is_told_more(tls_authority: Authority, plain: socket.socket) -> None:
    with both_ends(tls_authority, plain) as (client, server):
        client.sendall(b"ask")
        assert server.recv(10) == b"ask"
        server.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b"", "an end that TLS vouches for"
        client.sendall(b"more")
        assert server.recv(10) == b"more"


def test_a_body_and_its_end(tls_authority: Authority, plain: socket.socket) -> None:
    with both_ends(tls_authority, plain) as (client, server):
        client.sendall(b"ask")
        assert server.recv(10) == b"ask"
        server.sendall(DATA)
        server.close()
        assert all_of(client) == DATA


def test_whom_a_stranger_vouches_for_is_not_believed(
    tls_authority: Authority, strange_authority: Authority, plain: socket.socket
) -> None:
    with (
        tls_front(tls_authority, url_of(plain)) as front,
        pytest.raises(ssl.SSLCertVerificationError),
        connected(strange_authority, front),
    ):
        pass


def test_nobody_behind_it_ends_the_connection(tls_authority: Authority) -> None:
    with (
        tls_front(tls_authority, f"http://127.0.0.1:{closed_port()}") as front,
        connected(tls_authority, front) as client,
        pytest.raises(OSError, match=r"(?i)eof|reset"),
    ):
        client.recv(1)


def test_it_ends_at_once_with_connections_open(tls_authority: Authority, plain: socket.socket) -> None:
    with contextlib.ExitStack() as clients:
        with tls_front(tls_authority, url_of(plain)) as front:
            address = urlsplit(front).port or 0
            silent = clients.enter_context(socket.create_connection(("127.0.0.1", address), timeout=10))
            client = clients.enter_context(connected(tls_authority, front))
            server = clients.enter_context(accepted(plain))
            client.sendall(b"ask")
            assert server.recv(10) == b"ask"
            begun = time.monotonic()
        assert time.monotonic() - begun < 1
        assert silent.recv(1) == b""
        assert server.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", address), timeout=10)
