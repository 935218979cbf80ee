"""What prefetchers are told, and its form on the wire. Pure but for :func:`observation_pipe`.

A pipe carries frames: ``magic (u16) · kind (u8) · payload length (u16)``, little-endian, then the
payload. A frame has at most 4096 bytes (``PIPE_BUF``), so that many writers never mix theirs (pipe(7)).
A reader that starts amid a frame looks for the next magic. The magic holds the version: raise it with
every change. Datagram sockets work too, but hold 10 datagrams where ``net.unix.max_dgram_qlen`` says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

MAGIC = 0x6F05
"""``o`` and version 5."""

PIPE_BYTES = 1 << 20
"""What Linux lets everybody have (``/proc/sys/fs/pipe-max-size``): 60,000 observations."""

_FRAME = struct.Struct("<HBH")
_INO = struct.Struct("<Q")
_READ = struct.Struct("<QQI")
_INOS_PER_FRAME = (select.PIPE_BUF - _FRAME.size) // _INO.size

_KIND_OPENED, _KIND_READ, _KIND_LISTED, _KIND_ORDER, _KIND_MORE, _KIND_WARM, _KIND_WITHDRAWN = range(1, 8)
_KIND_REOPENED, _KIND_READ_WHOLE, _KIND_LOOKED_UP = 8, 9, 10
KNOWN_ORDER = 0
"""The batch number by which the known order itself is withdrawn."""


class Opened(NamedTuple):
    """A program opened the file ``ino``."""

    ino: int


class Reopened(NamedTuple):
    """Programs opened so many ``files`` that had been opened before, and of which none was missing."""

    files: int


class Read(NamedTuple):
    """A READ of ``size`` bytes from ``offset`` of the file ``ino`` reached a worker.

    Both are 0 for a small file that was answered whole: there is nothing more to plan from it.
    """

    ino: int
    offset: int
    size: int


class Listed(NamedTuple):
    """A program listed the directory ``ino``."""

    ino: int


class LookedUp(NamedTuple):
    """The kernel asked for the name of the file ``ino``, which it does not know."""

    ino: int


class Known(NamedTuple):
    """A program will open ``inos`` in this order; ``begin`` False continues an earlier message."""

    inos: Sequence[int]
    begin: bool


class Warm(NamedTuple):
    """Somebody wants ``inos`` in the disk cache; ``batch`` names the wish, other than 0."""

    batch: int
    inos: Sequence[int]


class Withdrawn(NamedTuple):
    """What was wished for as ``batch`` is not wanted any more; ``KNOWN_ORDER``: the known order."""

    batch: int


Observation = Opened | Reopened | Read | Listed | LookedUp | Known | Warm | Withdrawn

_OF_ONE: Mapping[int, Callable[[int], Observation]] = {
    _KIND_OPENED: Opened,
    _KIND_REOPENED: Reopened,
    _KIND_READ_WHOLE: lambda ino: Read(ino, 0, 0),
    _KIND_LISTED: Listed,
    _KIND_LOOKED_UP: LookedUp,
    _KIND_WITHDRAWN: Withdrawn,
}
"""Kinds whose payload is one number."""


def _frame_of_one(kind: int, number: int) -> bytes:
    return _FRAME.pack(MAGIC, kind, _INO.size) + _INO.pack(number)


def opened_frame(ino: int) -> bytes:
    """Encodes :class:`Opened`."""
    return _frame_of_one(_KIND_OPENED, ino)


def reopened_frame(count: int) -> bytes:
    """Encodes :class:`Reopened`."""
    return _frame_of_one(_KIND_REOPENED, count)


def read_frame(ino: int, offset: int = 0, size: int = 0) -> bytes:
    """Encodes :class:`Read`."""
    if not offset and not size:
        return _frame_of_one(_KIND_READ_WHOLE, ino)
    return _FRAME.pack(MAGIC, _KIND_READ, _READ.size) + _READ.pack(ino, offset, size)


def listed_frame(ino: int) -> bytes:
    """Encodes :class:`Listed`."""
    return _frame_of_one(_KIND_LISTED, ino)


def looked_up_frame(ino: int) -> bytes:
    """Encodes :class:`LookedUp`."""
    return _frame_of_one(_KIND_LOOKED_UP, ino)


def known_frames(inos: Sequence[int], *, begin: bool = True) -> Iterator[tuple[bytes, int]]:
    """Encodes an order in as many frames as it takes: (frame, how many inos it carries)."""
    for first in range(0, len(inos), _INOS_PER_FRAME):
        part = inos[first : first + _INOS_PER_FRAME]
        kind = _KIND_ORDER if begin and first == 0 else _KIND_MORE
        payload = struct.pack(f"<{len(part)}Q", *part)
        yield _FRAME.pack(MAGIC, kind, len(payload)) + payload, len(part)


def warm_frames(batch: int, inos: Sequence[int]) -> Iterator[tuple[bytes, int]]:
    """Encodes :class:`Warm` in as many frames as it takes: (frame, how many inos it carries)."""
    each = _INOS_PER_FRAME - 1
    for first in range(0, len(inos), each):
        part = inos[first : first + each]
        payload = struct.pack(f"<{1 + len(part)}Q", batch, *part)
        yield _FRAME.pack(MAGIC, _KIND_WARM, len(payload)) + payload, len(part)


def withdrawn_frame(batch: int) -> bytes:
    """Encodes :class:`Withdrawn`."""
    return _frame_of_one(_KIND_WITHDRAWN, batch)


class Decoder:
    """Observations out of bytes that arrive in any pieces. Bytes that make no sense are skipped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Observation]:
        """The observations that ``data`` completes."""
        data = self._rest + data
        position = 0
        while position + _FRAME.size <= len(data):
            magic, kind, length = _FRAME.unpack_from(data, position)
            payload = position + _FRAME.size
            if magic != MAGIC or not _plausible(kind, length):
                position += 1
                continue
            if payload + length > len(data):
                break
            yield _decode(kind, data[payload : payload + length])
            position = payload + length
        self._rest = data[position:]


def _plausible(kind: int, length: int) -> bool:
    if kind == _KIND_READ:
        return length == _READ.size
    if kind in _OF_ONE:
        return length == _INO.size
    fits = 0 < length <= select.PIPE_BUF and length % _INO.size == 0
    return kind in {_KIND_ORDER, _KIND_MORE, _KIND_WARM} and fits


def _decode(kind: int, payload: bytes) -> Observation:
    if (of_one := _OF_ONE.get(kind)) is not None:
        return of_one(*_INO.unpack(payload))
    if kind == _KIND_READ:
        return Read(*_READ.unpack(payload))
    inos = struct.unpack(f"<{len(payload) // _INO.size}Q", payload)
    return Warm(inos[0], inos[1:]) if kind == _KIND_WARM else Known(inos, kind == _KIND_ORDER)


def observation_pipe() -> tuple[int, int]:
    """(reading end, writing end) of a pipe for observations, neither blocking; made before the fork."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a user beyond its pipe quota keeps the 64 KiB of a usual pipe
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reading, writing
