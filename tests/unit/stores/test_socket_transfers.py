"""GETs on sockets: the test plays the server, step by step, so everything that a server can do is seen."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Iterator

import pytest

from ossmount.config import StoreSettings
from ossmount.model import ObjectId
from ossmount.stores import range_get
from ossmount.stores.describing import GetRequest, get_request
from ossmount.stores.range_get import SLOWEST_BYTES, RangeGet, Trust
from ossmount.stores.resolving import Address, Resolver
from ossmount.stores.socket_transfers import AVOID_SECONDS, IDLE_SECONDS, SWEEP_SECONDS, SocketTransfers
from ossmount.stores.wire import Place
from tests.support.sinks import Gathering

BODY = bytes(range(256)) * 400
SETTINGS = StoreSettings(connect_timeout=5, request_timeout=20)
Said = tuple[bytes | None, bytes]


class Store:
    """Is told of requests, and describes none."""

    def __init__(self) -> None:
        self.sent_calls: list[tuple[int, bool, bool]] = []

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        raise AssertionError((target, start, length))

    def sent(self, size: int, seconds: float, *, failed: bool, throttled: bool = False) -> None:
        assert seconds >= 0
        self.sent_calls.append((size, failed, throttled))


class Stage:
    """Transfers, a listening socket, and a clock."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(10)
        self.port: int = self.server.getsockname()[1]
        self.address: Address = (socket.AF_INET, ("127.0.0.1", self.port))
        self.instead: list[RangeGet] = []
        self.said: list[Said] = []
        self.store = Store()
        self.now = 100.0
        resolver = Resolver(lambda place: [self.address], lambda job: job())
        self.transfers = SocketTransfers(
            SETTINGS, self.instead.append, resolver=resolver, clock=lambda: self.now
        )

    def begin(self, scheme: str = "http", pouring: bool = True) -> bool:
        """Asks for BODY, or the part of an object that it is; ``pouring``: into a sink."""
        target = ObjectId("s3://b", "k", "abc", len(BODY) + 1)
        request = get_request(f"{scheme}://127.0.0.1:{self.port}/b/k", target, 0, len(BODY))
        sink = Gathering()

        def arrived(body: bytes | None) -> None:
            self.said.append((body, sink.data))

        get = RangeGet(request, self.store, "s3://b", Trust(), arrived, sink if pouring else None)
        return self.transfers.begin(get)

    def accept(self) -> socket.socket:
        """The server's end of the next connection, to which the request has been sent."""
        self.work()
        peer = self.server.accept()[0]
        peer.settimeout(10)
        return peer

    def work(self) -> bool:
        """Waits for something to do, and does it."""
        readable, _, _ = select.select([self.transfers.fileno()], [], [], 10)
        assert readable, self.transfers
        return self.transfers.work()

    def until_said(self, count: int = 1) -> list[Said]:
        while len(self.said) < count:
            self.work()
        return self.said


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    with contextlib.closing(made.server), contextlib.closing(made.transfers):
        yield made


def request_on(peer: socket.socket) -> bytes:
    """What the client has sent: one whole request."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = peer.recv(4096)
        assert piece, data
        data += piece
    return data


def head(status: str = "206 Partial Content", length: int = len(BODY), *lines: str) -> bytes:
    said = [f"HTTP/1.1 {status}", 'ETag: "abc"', f"Content-Length: {length}", *lines, "", ""]
    return "\r\n".join(said).encode()


def answer(stage: Stage, peer: socket.socket, data: bytes, count: int = 1) -> list[Said]:
    """Sends the answer while the client receives it: it may be more than the sockets hold."""
    peer.setblocking(False)
    rest = memoryview(data)
    while rest or len(stage.said) < count:
        if rest:
            with contextlib.suppress(BlockingIOError):
                rest = rest[peer.send(rest) :]
        if len(stage.said) < count:
            stage.work()
    peer.settimeout(10)
    return stage.said


def test_a_body_is_in_the_sink_and_the_connection_serves_again(stage: Stage) -> None:
    assert stage.begin()
    peer = stage.accept()
    assert request_on(peer).startswith(b"GET /b/k HTTP/1.1\r\n")
    assert answer(stage, peer, head() + BODY) == [(b"", BODY)]
    assert repr(stage.transfers) == "SocketTransfers(1 connections, 1 idle)"
    assert stage.begin()
    request_on(peer)
    assert answer(stage, peer, head() + BODY, 2)[1] == (b"", BODY)
    assert stage.store.sent_calls == [(len(BODY), False, False)] * 2


@pytest.mark.parametrize("early", [0, 1, 4000, len(BODY)])
def test_without_a_sink_the_body_is_told_whole(stage: Stage, early: int) -> None:
    stage.begin(pouring=False)
    peer = stage.accept()
    request_on(peer)
    peer.sendall(head() + BODY[:early])
    assert answer(stage, peer, BODY[early:]) == [(BODY, b"")]


def test_of_a_body_that_ends_early_nothing_is_told(stage: Stage) -> None:
    stage.begin(pouring=False)
    peer = stage.accept()
    request_on(peer)
    peer.sendall(head() + BODY[:5000])
    peer.close()
    assert stage.until_said() == [(None, b"")]
    assert stage.store.sent_calls == [(0, True, False)]


def test_the_head_may_come_in_any_pieces(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    request_on(peer)
    for byte in head():
        peer.sendall(bytes([byte]))
        stage.work()
    assert answer(stage, peer, BODY) == [(b"", BODY)]


def test_a_server_that_closes_is_connected_to_again(stage: Stage) -> None:
    for count in (1, 2):
        stage.begin()
        peer = stage.accept()
        request_on(peer)
        answer(stage, peer, head("206 Partial Content", len(BODY), "Connection: close") + BODY, count)
        peer.close()
        assert repr(stage.transfers) == "SocketTransfers(0 connections, 0 idle)"
    assert stage.said == [(b"", BODY)] * 2


def test_an_idle_connection_that_the_server_closes_is_forgotten(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    answer(stage, peer, head() + BODY)
    peer.close()
    stage.work()
    assert repr(stage.transfers) == "SocketTransfers(0 connections, 0 idle)"


def test_one_that_is_closed_under_a_request_costs_another_way_and_no_distrust(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    request_on(peer)
    answer(stage, peer, head() + BODY)
    peer.close()
    assert stage.begin(), "nobody has heard of the end yet"
    while not stage.instead:
        stage.work()
    assert len(stage.said) == 1
    assert stage.begin(), "the next is sent on a fresh one"


def test_who_does_not_answer_in_http_is_left_alone_for_a_while(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    peer.sendall(b"220 smtp.example\r\n\r\n")
    while not stage.instead:
        stage.work()
    assert not stage.begin()
    stage.now += AVOID_SECONDS
    assert stage.begin()
    assert stage.said == []


def test_where_nobody_listens_there_is_another_way(stage: Stage) -> None:
    stage.server.close()
    assert stage.begin()
    stage.work()
    assert (len(stage.instead), stage.said) == (1, [])
    assert not stage.begin()


@pytest.mark.parametrize(
    ("status", "length", "throttled"),
    [
        ("412 Precondition Failed", 0, False),
        ("503 Slow Down", 3, True),
        ("429 Too Many Requests", 3, True),
        ("206 Partial Content", len(BODY) - 1, False),
        ("206 Partial Content", len(BODY) + 1, False),
        ("200 OK", len(BODY), False),
    ],
)
def test_another_answer_is_none(stage: Stage, status: str, length: int, throttled: bool) -> None:
    stage.begin()
    peer = stage.accept()
    peer.sendall(head(status, length) + b"abc")
    assert stage.until_said() == [(None, b"")]
    assert stage.store.sent_calls == [(0, True, throttled)]
    assert repr(stage.transfers) == "SocketTransfers(0 connections, 0 idle)"


def test_another_version_is_no_answer(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    peer.sendall(head().replace(b'"abc"', b'"abd"') + BODY[:100])
    assert stage.until_said() == [(None, b"")]


def test_a_body_that_breaks_off_is_none(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    peer.sendall(head() + BODY[:50_000])
    peer.close()
    assert stage.until_said() == [(None, BODY[:50_000])]
    assert stage.instead == []


def test_a_body_that_stands_still_is_none_after_the_time_out(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    peer.sendall(head() + BODY[:5000])
    stage.work()
    stage.now += SETTINGS.request_timeout
    stage.transfers.work()
    assert stage.said == []
    peer.sendall(BODY[5000:6000])
    stage.work()
    stage.now += SETTINGS.request_timeout + SWEEP_SECONDS
    stage.transfers.work()
    assert stage.said == [(None, BODY[:6000])], "from the last byte on"


def test_a_body_that_trickles_is_none_in_the_end(stage: Stage) -> None:
    """Each byte moves it on, and it would keep its place among the requests in flight for days."""
    stage.begin()
    peer = stage.accept()
    peer.sendall(head())
    stage.work()
    ends = stage.now + SETTINGS.request_timeout + len(BODY) / SLOWEST_BYTES
    sent = 0
    while stage.now + SETTINGS.request_timeout / 2 < ends:
        peer.sendall(BODY[sent : sent + 1])
        stage.work()
        assert stage.said == []
        sent += 1
        stage.now += SETTINGS.request_timeout / 2
    stage.now = ends + SWEEP_SECONDS
    stage.transfers.work()
    assert stage.said == [(None, BODY[:sent])]


def test_a_connection_that_nobody_answers_is_given_up() -> None:
    stage = Stage()
    with contextlib.closing(stage.server), contextlib.closing(stage.transfers):
        stage.address = (socket.AF_INET, ("192.0.2.1", 9))  # RFC 5737: leads nowhere
        if not stage.begin():
            pytest.skip("this machine refuses at once")
        stage.now += SETTINGS.connect_timeout + SWEEP_SECONDS
        stage.transfers.work()
        assert (len(stage.instead), stage.said) == (1, [])


def test_an_old_connection_is_not_used_again(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    answer(stage, peer, head() + BODY)
    stage.now += IDLE_SECONDS + 1
    assert stage.begin()
    assert stage.accept() is not None
    assert stage.begin(), "and the next finds none"


def test_tls_and_proxies_go_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    assert not stage.begin("https")
    assert repr(stage.transfers) == "SocketTransfers(0 connections, 0 idle)"
    stage.transfers.close()
    stage.server.close()
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    proxied = Stage()
    with contextlib.closing(proxied.server), contextlib.closing(proxied.transfers):
        assert not proxied.begin()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert proxied.begin()


def test_an_unknown_address_goes_another_way(stage: Stage) -> None:
    later: list[object] = []
    stage.transfers.close()
    stage.transfers = SocketTransfers(
        SETTINGS, stage.instead.append, resolver=Resolver(lambda place: [stage.address], later.append)
    )
    assert not stage.begin()
    assert Place("127.0.0.1", stage.port)
    assert len(later) == 1


def test_the_end_is_told_to_nobody(stage: Stage) -> None:
    stage.begin()
    peer = stage.accept()
    request_on(peer)
    stage.transfers.close()
    assert peer.recv(1) == b""
    assert stage.said == []
    stage.transfers = SocketTransfers(SETTINGS, stage.instead.append)  # the fixture closes one


def test_where_no_socket_can_be_had_it_goes_another_way(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as short:
        short.setattr(socket, "socket", fails)
        assert not stage.begin()
    assert stage.begin()
    assert stage.instead == []


def test_a_store_that_fails_each_time_is_not_asked_so_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    trust = Trust()
    for _ in range(range_get.MISTRUST_AFTER - 1):
        trust.learn("s3://b", succeeded=False)
    trust.learn("s3://b", succeeded=True)
    for _ in range(range_get.MISTRUST_AFTER - 1):
        trust.learn("s3://b", succeeded=False)
        assert trust.has("s3://b")
    trust.learn("s3://b", succeeded=False)
    assert not trust.has("s3://b")
    assert trust.has("s3://c")
    monkeypatch.setattr(range_get, "MISTRUST_SECONDS", -1.0)
    for _ in range(range_get.MISTRUST_AFTER):
        trust.learn("s3://b", succeeded=False)
    assert trust.has("s3://b"), "its time is over"
    trust.learn("s3://b", succeeded=False)
    monkeypatch.setattr(range_get, "MISTRUST_SECONDS", 60.0)
    for _ in range(range_get.MISTRUST_AFTER - 2):
        trust.learn("s3://b", succeeded=False)
    assert trust.has("s3://b"), "it began anew"
