"""Bodies received where they belong: from the socket into the memory of a block, or of a whole small file.

libcurl hands out a body in pieces of 16 KiB, each a ``bytes`` that is copied once more into its block:
65,000 for a GiB. Here one system call brings all that has come, and the process copies nothing: 60 instead of
90 µs of CPU for 68 KB. Only what that makes cheaper goes this way: HTTP without TLS (with it each record
passes through the process anyway) and without a proxy. For the rest, and for whatever goes wrong before a
body begins, there is libcurl.

What may live here: connections of HTTP/1.1, from connecting to keeping them for the next request. What goes
over the wire is :mod:`ossmount.stores.wire`'s. Touch it together with ``tests/store_suite``.
"""

from __future__ import annotations

import os
import select
import socket
import time
import urllib.request
from collections.abc import Callable
from enum import Enum, auto

from ossmount.config import StoreSettings
from ossmount.stores.range_get import RangeGet
from ossmount.stores.resolving import Address, Resolver
from ossmount.stores.wire import NotPlain, Place, parse_head, place_of, request_bytes

FIRST_BYTES = 4096
"""Received while the head has not ended; what of the body comes with it is copied."""

AVOID_SECONDS = 30.0
"""Without this way to a host with which it went wrong before a body began: libcurl may know more of it."""

IDLE_SECONDS = 60.0
"""After which a connection is not used again: a gateway between may have forgotten it and not said so."""

SWEEP_SECONDS = 0.5
"""Between two looks for connections on which nothing comes any more."""


class SocketTransfers:
    """Connections and the GETs on them. Belongs to one thread, and to the process that made it.

    ``instead`` is given what could not be sent, or was not answered, before any of its body came.
    """

    def __init__(
        self,
        settings: StoreSettings,
        instead: Callable[[RangeGet], None],
        *,
        resolver: Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._instead = instead
        self._resolver = resolver or Resolver()
        self._clock = clock
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._idle: dict[Place, list[_Connection]] = {}
        self._avoided: dict[Place, float] = {}
        self._proxied = bool({"http", "all"} & urllib.request.getproxies().keys())
        self._sweep_at = 0.0

    def __repr__(self) -> str:
        idle = sum(map(len, self._idle.values()))
        return f"SocketTransfers({len(self._connections)} connections, {idle} idle)"

    def fileno(self) -> int:
        """Readable when :meth:`work` has something to do; beyond that it wants to be called now and then."""
        return self._epoll.fileno()

    def begin(self, get: RangeGet) -> bool:
        """Sends ``get``; False where it has to go another way."""
        place = place_of(get.request.url)
        if place is None or self._shuns(place) or (address := self._resolver.find(place)) is None:
            return False
        try:
            data = request_bytes(get.request)
            connection = self._fresh_idle(place) or self._connect(place, address)
        except (NotPlain, OSError):
            return False
        connection.begin(get, data, self._clock())
        self._advance(connection, connection.send)
        return True

    def work(self) -> bool:
        """Does what can be done without waiting, and reports what has arrived."""
        if not self._connections:
            return False
        ready = self._epoll.poll(0)
        for descriptor, _events in ready:
            if (connection := self._connections.get(descriptor)) is not None:
                self._advance(connection, connection.go_on)
        if self._clock() >= self._sweep_at:
            self._sweep(self._clock())
        return bool(ready)

    def close(self) -> None:
        """Ends what runs; nobody hears of it any more."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self._idle.clear()
        self._epoll.close()

    def _shuns(self, place: Place) -> bool:
        if self._proxied and not urllib.request.proxy_bypass(place.host):
            return True
        return self._clock() < self._avoided.get(place, 0.0)

    def _fresh_idle(self, place: Place) -> _Connection | None:
        idle = self._idle.get(place, [])
        while idle:
            connection = idle.pop()
            if self._clock() - connection.moved <= IDLE_SECONDS:
                return connection
            self._drop(connection)
        return None

    def _connect(self, place: Place, address: Address) -> _Connection:
        connection = _Connection(place, address, self._epoll)
        self._connections[connection.fileno()] = connection
        return connection

    def _advance(self, connection: _Connection, step: Callable[[float], _State]) -> None:
        """Takes a step, and then does what the connection's state asks for."""
        try:
            state = step(self._clock())
        except BlockingIOError:
            return
        except (OSError, NotPlain):
            state = _State.BROKEN
        if state is _State.WAITING:
            return
        get = connection.get
        if state is _State.READY:
            self._idle.setdefault(connection.place, []).append(connection)
            connection.rest(self._clock())
        else:
            self._drop(connection)
        if get is not None:
            self._end(connection, get, state)

    def _end(self, connection: _Connection, get: RangeGet, state: _State) -> None:
        if state in {_State.READY, _State.DONE}:
            get.end(connection.status, b"")
        elif connection.status:
            get.end(connection.status, None)
        else:
            if not connection.served:  # the server may have closed it a moment ago, which is its right
                self._avoided[connection.place] = self._clock() + AVOID_SECONDS
            self._instead(get)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.fileno()]
        idle = self._idle.get(connection.place, [])
        if connection in idle:
            idle.remove(connection)
        connection.close()

    def _sweep(self, now: float) -> None:
        self._sweep_at = now + SWEEP_SECONDS
        for connection in list(self._connections.values()):
            if now - connection.moved > self._patience(connection) or self._trickles(connection, now):
                self._advance(connection, connection.give_up)

    def _trickles(self, connection: _Connection, now: float) -> bool:
        get, timeout = connection.get, self._settings.request_timeout
        return get is not None and now - connection.began > get.longest(timeout)

    def _patience(self, connection: _Connection) -> float:
        if connection.get is None:
            return IDLE_SECONDS
        settings = self._settings
        return settings.request_timeout if connection.connected else settings.connect_timeout


class _State(Enum):
    WAITING = auto()
    READY = auto()
    """The body has come, and the connection may be used again."""
    DONE = auto()
    """The body has come, and the server wants no more of it."""
    BROKEN = auto()


class _Connection:
    """A socket that never blocks, and the GET on it. Its steps raise OSError and NotPlain."""

    def __init__(self, place: Place, address: Address, epoll: select.epoll) -> None:
        family, where = address
        self.place = place
        self.get: RangeGet | None = None
        self.connected = False
        self.status = 0
        """Of the answer; 0 until its head has come whole."""
        self.served = False
        """Whether a GET before this one was answered."""
        self.moved = 0.0
        """When it last got a byte or a GET."""
        self.began = 0.0
        """When it got its GET."""
        self._epoll = epoll
        self._watched = select.EPOLLOUT
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.connect_ex(where)  # what it says is told again when it is connected
            epoll.register(self._socket, self._watched)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The socket's."""
        return self._socket.fileno()

    def begin(self, get: RangeGet, data: bytes, now: float) -> None:
        """Takes ``get``, whose request is ``data``."""
        self.get, self.moved, self.began = get, now, now
        self.status, self._keep = 0, False
        self._unsent, self._head = memoryview(data), b""

    def rest(self, now: float) -> None:
        """Has no GET any more."""
        self.get, self.served, self.moved = None, True, now

    def close(self) -> None:
        """Closes the socket, which the epoll then forgets."""
        self._socket.close()

    def give_up(self, now: float) -> _State:
        """Too long without a byte."""
        return _State.BROKEN

    def go_on(self, now: float) -> _State:
        """Something can be sent or received, or an idle connection was closed."""
        if self.get is None:
            return _State.BROKEN
        if not self.connected:
            if (number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                raise OSError(number, os.strerror(number))
            self.connected = True
        return self.send(now) if self._unsent else self._receive(self.get, now)

    def send(self, now: float) -> _State:
        """Sends what it can of the request."""
        if self.connected:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
            self.moved = now
            self._watch(select.EPOLLOUT if self._unsent else select.EPOLLIN)
        return _State.WAITING

    def _watch(self, events: int) -> None:
        if events != self._watched:
            self._epoll.modify(self._socket, events)
            self._watched = events

    def _receive(self, get: RangeGet, now: float) -> _State:
        self.moved = now
        if not self.status and not self._receive_head(get):
            return _State.WAITING
        sink = get.keep()
        while missing := get.missing:
            room = sink.room()
            count = self._socket.recv_into(room, min(len(room), missing))
            if count == 0:
                return _State.BROKEN
            sink.came(count)
            get.poured += count
        return _State.READY if self._keep else _State.DONE

    def _receive_head(self, get: RangeGet) -> bool:
        """Whether the head has come whole; then it is that of the right answer, or NotPlain is raised."""
        piece = self._socket.recv(FIRST_BYTES)
        self._head += piece
        found = parse_head(self._head)
        if found is None:
            if not piece:
                raise NotPlain("the connection was closed within the head")
            return False
        (status, length, etag, content_range, self._keep), body = found
        self.status = status
        if not get.fits(status, etag, content_range) or length != get.request.length or len(body) > length:
            raise NotPlain(f"not the answer that was asked for ({status})")
        get.pour(body)
        return True
