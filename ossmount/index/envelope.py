"""The file around the tables: trailer, checksum, temporary file, rename.

What may live here: whole-file concerns; no tree. Who may touch it: whoever knows docs/index-format.md.

The trailer stands behind LMDB's last page, where LMDB never looks. A file that lost its end has no
trailer, so opening one detects truncation by reading 64 bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import xxhash

from ossmount.errors import IndexDamaged, IndexFileError, IndexVersionError
from ossmount.index.layout import FORMAT

_MAGIC = b"OSSMIDX\n"
_TRAILER = struct.Struct("<8sIIQ16s24x")
"""Magic, format, reserved, bytes before the trailer, xxh3-128 of them; the next 8 bytes are the xxh3-64 of
those before them, the last 16 are zero."""
_CHECK_AT = 40
_LMDB_MAGIC = struct.pack("<I", 0xBEEFC0DE)
_LMDB_MAGIC_AT = 16
_CHUNK = 1 << 20

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
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Removes what builds that were killed left behind."""
    for stale in path.parent.glob(f"{path.name}.tmp.*"):
        pid = stale.name.removeprefix(f"{path.name}.tmp.").split(".")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            stale.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
