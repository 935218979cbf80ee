"""The metrics over HTTP, for Prometheus: as much of HTTP/1.1 as a scrape needs.

The supervisor opens the listening socket before it forks, so that a busy address is an error of ``mount``
and a scrape waits through the restart of a worker. Worker 0 answers: the supervisor must not wait for
anybody, and a scrape costs a worker three milliseconds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
from pathlib import Path

import trio

from ossmount.errors import SettingsError

log = logging.getLogger(__name__)

LONGEST_REQUEST = 16 << 10
"""Bytes of a request's head."""

REQUEST_SECONDS = 10.0
"""A client that takes longer than this is cut off; Prometheus' own limit is ten seconds."""

MOST_CLIENTS = 8

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def open_listener(address: str) -> socket.socket:
    """A listening socket at ``HOST:PORT`` or at a path. Raises SettingsError."""
    try:
        if address.startswith(("/", "unix:")):
            return _listen_at(Path(address.removeprefix("unix:")))
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal():
            raise SettingsError(
                f"--metrics-listen {address!r} is no address",
                "write HOST:PORT, or the absolute path of a socket",
            )
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"cannot listen on {address}: {reason}", "choose another --metrics-listen"
        ) from error


def _listen_at(path: Path) -> socket.socket:
    """Replaces a socket that nobody listens on any more, and nothing else."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen()
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def close_listener(listener: socket.socket) -> None:
    """Closes it, and removes the path of a unix socket."""
    name = listener.getsockname()
    listener.close()
    if isinstance(name, str):
        Path(name).unlink(missing_ok=True)


async def serve_metrics(listener: socket.socket, directory: Path) -> None:
    """Answers scrapes until cancelled; ``directory`` is where the children publish."""
    # A copy of the descriptor: trio closes what it was given, and the socket belongs to the mount.
    own = trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))
    limit = trio.CapacityLimiter(MOST_CLIENTS)

    async def serve(stream: trio.SocketStream) -> None:
        async with limit, stream:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                with trio.move_on_after(REQUEST_SECONDS):
                    await stream.send_all(_answer(await _head(stream), directory))

    await trio.serve_listeners(serve, [own])


async def _head(stream: trio.SocketStream) -> bytes:
    """The request up to the empty line; what came where there is none."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < LONGEST_REQUEST:
        part = await stream.receive_some()
        if not part:
            break
        head += part
    return head


def _answer(head: bytes, directory: Path) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _response("400 Bad Request", b"this is an HTTP server\n")
    method, target = words[0], words[1].partition(b"?")[0]
    if target != b"/metrics":
        return _response("404 Not Found", b"see /metrics\n")
    if method not in {b"GET", b"HEAD"}:
        return _response("405 Method Not Allowed", b"GET it\n", "Allow: GET, HEAD\r\n")
    from ossmount.app.metrics import exposition  # prometheus_client: 5 MB that only a scraped mount needs

    return _response("200 OK", exposition(directory), with_body=method == b"GET")


def _response(status: str, body: bytes, headers: str = "", *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {_TEXT}\r\nContent-Length: {len(body)}\r\n{headers}"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
