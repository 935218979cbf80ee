"""The meeting place of node plugin and sidecar: directories and the one message in the Pod's emptyDir.

::

    ossmount-tmp/                 the emptyDir, which every container that mounts it may write
      .volumes/                   root's, 0755
        <volume>/                 root's, 0755
          socket                  the plugin listens until the descriptor is fetched; the sidecar's, 0600
          credentials/            root's, 0755; files of the sidecar's user, 0600, replaced when renewed
          sidecar/                the sidecar's, 0700: status.json, error.json

The plugin accepts one connection of the sidecar's user and sends one JSON object (``version``, ``volume``,
``sources``, ``options``), ended by EOF, and with its first byte exactly one descriptor (SCM_RIGHTS).

What may live here: what both sides must agree on. Who may touch it: whoever changes both; a message that
the other side would misread takes another VERSION.
"""

from __future__ import annotations

import array
import json
import os
import socket
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from ossmount.errors import MountError, OssmountError, encode_error
from ossmount.json_text import read_json

VERSION = 1

EMPTY_DIR = "ossmount-tmp"
"""Name of the Pod's emptyDir volume, and where the sidecar mounts it (below ``/``)."""

VOLUMES, SOCKET, CREDENTIALS, SIDECAR = ".volumes", "socket", "credentials", "sidecar"
STATUS_FILE, ERROR_FILE = "status.json", "error.json"

SIDECAR_UID = 65534
"""``nobody``: the user of the sidecar unless both sides are told another."""

PATH_MAX = 107
"""Longest path of a unix socket in bytes: ``sun_path`` has 108 with the ending NUL (unix(7))."""

MESSAGE_MAX = 1 << 20
"""Bytes of a message. The context of a call is limited to 4 KiB by the specification."""

FILE_MAX = 4096
"""Bytes of a status or error file that the plugin reads: the other side may be anybody."""

MESSAGE_LETTERS, REMEDY_LETTERS = 512, 128
"""Of an error in such a file: with each letter escaped (six bytes) both fit into FILE_MAX."""

EXCHANGE_SECONDS = 10.0
"""How long either side waits for the other while the message passes."""

_FUSE_DEVICE = os.makedev(10, 229)
"""``/dev/fuse`` (Linux, admin-guide/devices)."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What is handed over beside the descriptor."""

    volume: str
    sources: tuple[str, ...]
    options: dict[str, str]

    def encode(self) -> bytes:
        """As it is sent."""
        fields = {"sources": list(self.sources), "options": self.options}
        return json.dumps({"version": VERSION, "volume": self.volume, **fields}).encode()

    @classmethod
    def decode(cls, text: bytes) -> Offer:
        """Raises MountError for what is no message of this version."""
        try:
            fields = read_json(text)
            version = fields["version"]
            if version == VERSION:
                return cls(fields["volume"], tuple(map(str, fields["sources"])), _texts(fields["options"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MountError("the node plugin sent no message that can be read") from error
        raise MountError(
            f"the node plugin speaks version {version} of the exchange, this sidecar version {VERSION}",
            "use the same release of both",
        )


def _texts(options: Mapping[str, object]) -> dict[str, str]:
    return {str(name): str(text) for name, text in options.items()}


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a unix socket, as this user namespace sees him."""
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", credentials)[1])


def send(connection: socket.socket, offer: Offer, descriptor: int) -> None:
    """Sends the message and the descriptor, and ends the stream. Raises OSError."""
    connection.settimeout(EXCHANGE_SECONDS)
    text = offer.encode()
    sent = socket.send_fds(connection, [text], [descriptor])
    connection.sendall(text[sent:])
    connection.shutdown(socket.SHUT_WR)


def receive(connection: socket.socket) -> tuple[Offer, int]:
    """The message and the descriptor, which is the receiver's to close. Raises MountError, OSError."""
    connection.settimeout(EXCHANGE_SECONDS)
    descriptors: list[int] = []
    try:
        offer = Offer.decode(_text(connection, descriptors))
        _check(descriptors)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return offer, descriptors[0]


def _text(connection: socket.socket, descriptors: list[int]) -> bytes:
    """Everything until EOF; descriptors that come with it are added to ``descriptors``."""
    text = b""
    room = socket.CMSG_LEN(4 * array.array("i").itemsize)
    while True:
        # Not socket.recv_fds: it drops its flags, and a process started meanwhile would inherit the device.
        piece, ancillary, flags, _ = connection.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = array.array("i")
                whole.frombytes(data[: len(data) - len(data) % whole.itemsize])
                descriptors += whole
        if flags & socket.MSG_CTRUNC:
            raise MountError("the node plugin sent too many descriptors")
        if not piece:
            return text
        text += piece
        if len(text) > MESSAGE_MAX:
            raise MountError(f"the node plugin's message is longer than {MESSAGE_MAX} bytes")


def _check(descriptors: list[int]) -> None:
    if len(descriptors) != 1:
        raise MountError(f"the node plugin sent {len(descriptors)} descriptors instead of one")
    status = os.fstat(descriptors[0])
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _FUSE_DEVICE:
        raise MountError("the node plugin sent a descriptor that is not of /dev/fuse")


def encode_failure(error: OssmountError) -> str:
    """The text of an error file. What would make it longer than FILE_MAX is left out."""
    fields = encode_error(error)
    message, remedy = fields["message"][:MESSAGE_LETTERS], fields["remedy"][:REMEDY_LETTERS]
    return json.dumps({"version": VERSION} | fields | {"message": message, "remedy": remedy})


def failure_told(text: str) -> str:
    """The message in an error file; "" where that is none, for anybody may have written it."""
    try:
        return str(read_json(text)["message"])[:MESSAGE_LETTERS]
    except (ValueError, TypeError, KeyError):
        return ""


def volume_of(target: str) -> tuple[PurePath, str]:
    """(directory of the Pod's volumes, name of the volume) of kubelet's target path.

    ``…/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount``. Raises ValueError for other paths.
    """
    path = PurePath(target)
    if path.name != "mount" or len(path.parts) < 4 or path.parent.parent.name != "kubernetes.io~csi":
        raise ValueError(target)
    return path.parent.parent.parent, path.parent.name
