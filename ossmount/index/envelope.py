"""The file around the tables: trailer, checksum, temporary file, rename.

What may live here: whole-file concerns; no tree. Who may touch it: whoever knows docs/index-format.md.

The trailer stands behind LMDB's last page, where LMDB never looks. A file that lost its end has no
trailer, so opening one detects truncation by reading 64 bytes.
"""

from __future__ import annotations

import fcntl
import glob
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import xxhash

from ossmount.errors import IndexDamaged, IndexFileError, IndexVersionError
from ossmount.index.layout import FORMAT
from ossmount.index.storage import translated
from ossmount.places import is_no_file, is_still

_MAGIC = b"OSSMIDX\n"
_TRAILER = struct.Struct("<8sIIQ16s24x")
"""Magic, format, reserved, bytes before the trailer, xxh3-128 of them; the next 8 bytes are the xxh3-64 of
those before them, the last 16 are zero."""
_CHECK_AT = 40
_LMDB_MAGIC = struct.pack("<I", 0xBEEFC0DE)
_LMDB_MAGIC_AT = 16
_CHUNK = 1 << 20

_RESERVATION = re.compile(r"\d+-[a-z0-9_]{8}")
"""What :func:`_reservation` puts behind ``NAME.tmp.``: nothing else is ever swept."""

REBUILD = "build it again with 'ossmount index build'"


def trailer_of(path: Path) -> tuple[int, bytes]:
    """Bytes of data and their digest. Raises IndexFileError, IndexVersionError, IndexDamaged."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            head = file.read(_LMDB_MAGIC_AT + 4)
            file.seek(max(0, size - _TRAILER.size))
            trailer = file.read(_TRAILER.size)
    except FileNotFoundError as error:
        raise IndexFileError(f"no index at {path}", "check the path, or build it") from error
    except OSError as error:
        raise IndexFileError(f"cannot read index {path}: {error.strerror}", "check the path") from error
    if head[_LMDB_MAGIC_AT:] != _LMDB_MAGIC:
        raise IndexDamaged(f"{path} is not an ossmount index", REBUILD)
    return _parse_trailer(path, trailer, size)


def _parse_trailer(path: Path, trailer: bytes, size: int) -> tuple[int, bytes]:
    if len(trailer) < _TRAILER.size or not trailer.startswith(_MAGIC):
        raise IndexDamaged(f"index {path} is truncated or was never finished", REBUILD)
    _, version, _, length, digest = _TRAILER.unpack(trailer)
    if trailer[_CHECK_AT : _CHECK_AT + 8] != xxhash.xxh3_64_digest(trailer[:_CHECK_AT]):
        raise IndexDamaged(f"index {path} has a damaged trailer", REBUILD)
    if version != FORMAT:
        raise IndexVersionError(
            f"index {path} has format {version}, this version reads format {FORMAT}", REBUILD
        )
    if length + _TRAILER.size != size:
        raise IndexDamaged(f"index {path} has {size} bytes instead of {length + _TRAILER.size}", REBUILD)
    return length, digest


def seal(path: Path) -> str:
    """Appends the trailer and makes the file durable; gives the checksum."""
    with path.open("r+b") as file:
        digest, length = _digest(file)
        head = _TRAILER.pack(_MAGIC, FORMAT, 0, length, digest)[:_CHECK_AT]
        file.write(head + xxhash.xxh3_64_digest(head) + bytes(_TRAILER.size - _CHECK_AT - 8))
        file.flush()
        os.fsync(file.fileno())
    return name_checksum(digest)


def verify(path: Path) -> str:
    """Reads the whole file and compares its checksum; gives it. Raises like :func:`trailer_of`."""
    length, digest = trailer_of(path)
    with path.open("rb") as file:
        found, _ = _digest(file, length)
    if found != digest:
        raise IndexDamaged(f"index {path} does not have its checksum {name_checksum(digest)}", REBUILD)
    return name_checksum(digest)


def checksum_of(path: Path) -> str:
    """The checksum that the file says it has, from its trailer. Raises like :func:`trailer_of`."""
    return name_checksum(trailer_of(path)[1])


def name_checksum(digest: bytes) -> str:
    """The digest as text, with the name of its algorithm."""
    return f"xxh3-128:{digest.hex()}"


def _digest(file: BinaryIO, limit: int | None = None) -> tuple[bytes, int]:
    """Digest and length of the first ``limit`` bytes, or of all; leaves the position behind them."""
    hasher, length = xxhash.xxh3_128(), 0
    buffer = bytearray(_CHUNK)
    while limit is None or length < limit:
        want = _CHUNK if limit is None else min(_CHUNK, limit - length)
        got = file.readinto(memoryview(buffer)[:want])  # type: ignore[attr-defined]
        if not got:
            break
        hasher.update(memoryview(buffer)[:got])
        length += got
    return hasher.digest(), length


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A temporary file next to ``path`` that replaces it in one step, or is gone after any failure."""
    with reserved(path) as temporary:
        yield temporary
        temporary.replace(path)
        _sync_directory(path.parent)


@contextmanager
def reserved(path: Path) -> Iterator[Path]:
    """A name next to ``path`` for what shall replace it: what begins with it is this build's alone.

    What is still there at the end is removed, and at the beginning what killed processes left. Raises
    IndexFileError.
    """
    if is_no_file(path):
        raise IndexFileError(f"{path} is no regular file, which an index would replace", "name another file")
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        descriptor, reservation = _reservation(path)
    try:
        yield reservation.with_name(f"{reservation.name}.new")
    finally:
        _remove(reservation)
        os.close(descriptor)


def _reservation(path: Path) -> tuple[int, Path]:
    """An empty file with a name of its own, and the descriptor that holds its lock.

    A process id alone would not do: in a container it is 1 each time, and no container sees another's.
    """
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.tmp.{os.getpid()}-", dir=path.parent)
        reservation = path.with_name(Path(name).name)
        with suppress(OSError):  # a file system without locks, where nothing is swept either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_still(descriptor, reservation):
            return descriptor, reservation
        os.close(descriptor)  # somebody swept it before it was locked


def _sweep(path: Path) -> None:
    """Removes what builds that were killed left behind: nobody holds their locks any more."""
    begin = f"{path.name}.tmp."
    found = path.parent.glob(f"{glob.escape(begin)}*")
    for name in {left.name.removeprefix(begin).partition(".")[0] for left in found}:
        if _RESERVATION.fullmatch(name):
            _remove_unless_held(path.with_name(begin + name))


def _remove_unless_held(reservation: Path) -> None:
    with suppress(OSError), reservation.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(reservation)


def _remove(reservation: Path) -> None:
    """Removes a reservation and what was made under it; itself last, so that no piece is ever without."""
    for piece in reservation.parent.glob(f"{glob.escape(reservation.name)}.*"):
        piece.unlink(missing_ok=True)
    reservation.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
