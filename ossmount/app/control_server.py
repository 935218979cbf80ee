"""The supervisor's end of the control socket: connections and lines. What is asked is ``control_answers``'s.

The supervisor has one thread and must never wait: every call here is non-blocking, lines and connections
are bounded, and a client that does not take its answer is cut off. Who may touch it: whoever changes how
clients are kept apart.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ossmount.app.control_protocol import (
    LONGEST_LINE,
    PROTOCOL,
    SOCKET_NAME,
    Refused,
    decode,
    encode,
    socket_address,
    unix_stream,
)
from ossmount.fuse.contract import Supervising

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 32
"""Clients at once; when another comes, the one that has been silent for longest is cut off."""

BACKLOG = 128

_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` (unix(7)): pid, uid, gid."""

Answer = Callable[[Supervising, Mapping[str, Any], object], Mapping[str, Any]]
"""``answer(supervising, request, connection)`` gives the fields of the answer. Raises Refused."""


class Connection:
    """A client. ``incoming`` is the line that is not complete yet."""

    def __init__(self, peer: socket.socket, uid: int) -> None:
        self.peer = peer
        self.uid = uid
        self.incoming = b""

    def __repr__(self) -> str:
        return f"Connection(uid {self.uid}, {len(self.incoming)} bytes of a line)"


class ControlServer:
    """Listens in ``directory``; ``answer`` gives the answers, ``left`` is told of each connection's end.

    ``allowed`` are the user ids that may speak (default: this process's and root's).
    """

    def __init__(
        self,
        directory: Path,
        answer: Answer,
        left: Callable[[object], None] = lambda _: None,
        allowed: frozenset[int] | None = None,
    ) -> None:
        self._answer = answer
        self._left = left
        self._allowed = frozenset({0, os.geteuid()}) if allowed is None else allowed
        self._path = directory / SOCKET_NAME
        self._connections: dict[Connection, None] = {}
        """Those that spoke last at the end."""
        self._listener = unix_stream()
        before = os.umask(0o177)  # 0600 from the first moment; one thread, so nobody else is affected
        try:
            with socket_address(directory) as address:
                self._listener.bind(address)
        except BaseException:
            self._listener.close()
            raise
        finally:
            os.umask(before)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)

    def __repr__(self) -> str:
        return f"ControlServer({str(self._path)!r}, {len(self._connections)} connections)"

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._listener.fileno()

    def close(self) -> None:
        """Ends every connection and removes the socket."""
        self.close_copies()
        self._path.unlink(missing_ok=True)

    def close_copies(self) -> None:
        """Closes the descriptors only: for a forked child."""
        self._listener.close()
        for connection in self._connections:
            connection.peer.close()

    def accept(self, supervising: Supervising) -> None:
        """Takes in who waits at the door. For ``Callbacks.on_readable``."""
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:  # nobody more, or out of descriptors: the client waits or goes
                return
            peer.setblocking(False)
            uid = _uid_of(peer)
            if uid not in self._allowed:
                log.warning("user %d may not use the control socket", uid)
                _send(peer, _refusal(Refused("denied", f"user {uid} may not control this mount")))
                peer.close()
                continue
            if len(self._connections) >= MOST_CONNECTIONS:
                self._drop(supervising, next(iter(self._connections)))
            connection = Connection(peer, uid)
            self._connections[connection] = None
            supervising.watch(peer.fileno(), partial(self._hear, connection))

    def _hear(self, connection: Connection, supervising: Supervising) -> None:
        if connection not in self._connections:
            return  # dropped while this event waited for its turn
        try:
            data = connection.peer.recv(LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(supervising, connection)
            return
        self._connections[connection] = self._connections.pop(connection)
        *lines, connection.incoming = (connection.incoming + data).split(b"\n")
        if not all(self._serve(connection, supervising, line) for line in lines):
            self._drop(supervising, connection)
        elif len(connection.incoming) > LONGEST_LINE:
            error = Refused("too-long", f"a request has at most {LONGEST_LINE} bytes")
            _send(connection.peer, _refusal(error))
            self._drop(supervising, connection)

    def _serve(self, connection: Connection, supervising: Supervising, line: bytes) -> bool:
        """Answers one line; False where the connection must end."""
        goes_on = True
        try:
            answer = self._answer(supervising, decode(line), connection)
            reply = encode({"v": PROTOCOL, "ok": True, **answer})
        except Refused as error:
            goes_on = error.code != "malformed"  # after garbage nobody knows where a line begins
            reply = _refusal(error)
        except Exception as error:  # an error here must not end a mount that serves
            log.exception("a control request failed")
            reply = _refusal(Refused("failed", f"{type(error).__name__}: {error}", "see the mount's log"))
        return _send(connection.peer, reply) and goes_on

    def _drop(self, supervising: Supervising, connection: Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            supervising.unwatch(connection.peer.fileno())
            connection.peer.close()
            self._left(connection)


def _refusal(error: Refused) -> bytes:
    return encode(
        {"v": PROTOCOL, "ok": False, "error": error.code, "message": error.message, "remedy": error.remedy}
    )


def _send(peer: socket.socket, data: bytes) -> bool:
    """False where not all was taken at once: who does not read its answers is not waited for."""
    with contextlib.suppress(OSError):
        return peer.send(data, socket.MSG_NOSIGNAL) == len(data)
    return False


def _uid_of(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
