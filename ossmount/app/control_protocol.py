"""What goes over a mount's control socket: names and limits that both ends agree on (docs/control-socket.md).

What may live here: constants, and lines to and from values. Who may touch it: whoever changes the protocol,
and then raises ``PROTOCOL`` unless old clients and old mounts go on working.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ossmount.json_text import read_json

PROTOCOL = 1

SOCKET_NAME = "control.sock"

LONGEST_LINE = 256 << 10
"""Bytes of a request: an order of ``MOST_INODES`` with room to spare."""

MOST_INODES = 8192
"""Files in one request: parsed in two milliseconds, so that the supervisor is never away for long."""


class Refused(Exception):
    """A request that is answered with an error; ``code`` is part of the protocol."""

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.remedy = code, message, remedy


def encode(value: Mapping[str, Any]) -> bytes:
    """A line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object on a line. Raises Refused."""
    try:
        value = read_json(line)
    except ValueError as error:
        raise Refused("malformed", f"not a line of JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refused("malformed", "a request is a JSON object")
    if value.get("v") != PROTOCOL:
        raise Refused(
            "version",
            f"protocol version {value.get('v')!r} is not spoken here, only {PROTOCOL}",
            "use the ossmount that made the mount",
        )
    return value


@contextmanager
def socket_address(directory: Path) -> Iterator[str]:
    """The socket's address: short, however long the path (a unix address holds 107 bytes)."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET_NAME}"
    finally:
        os.close(fd)


def unix_stream() -> socket.socket:
    """A new socket of the kind that is spoken."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
