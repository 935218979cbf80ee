"""``file:///``: the local file system as one store. The embedded default: needs no server and no keys.

What may live here: the store and its walk. Touch it when a platform's file names or stat differ.

Keys are absolute paths without the leading slash, bytes decoded as UTF-8 with ``surrogateescape``, so
every name survives. Order is that of S3: by the bytes of the key, a directory sorting as ``name/``.
Symbolic links are followed, except where one leads back to a directory above it; broken links, devices,
sockets and pipes are not listed; an empty directory shows only as a prefix of a delimited listing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from itertools import islice

from ossmount.errors import (
    AccessDenied,
    BucketMissing,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ossmount.model import ListPage, ObjectId, ObjectInfo
from ossmount.uris import FILE_ROOT, join_uri

PAGE_SIZE = 1000
"""Keys on a page: that of S3, so that whoever reads pages sees the same shape everywhere."""

_NO_NAME = frozenset({errno.ENAMETOOLONG, errno.ELOOP})
"""A name that no file can have, and a link to itself."""

_Row = tuple[bytes, os.stat_result | None]
"""A key and its status, or a prefix (with its trailing slash) and None."""


class FileStore:
    """All local files. Holds nothing open between calls."""

    def __init__(self) -> None:
        self.uri = FILE_ROOT

    def __repr__(self) -> str:
        return "FileStore()"

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """See ``protocols.ObjectStore``. ``delimiter`` is ``/`` or nothing (ValueError otherwise)."""
        if delimiter not in {"", "/"}:
            raise ValueError(f"a directory cannot be listed with the delimiter {delimiter!r}")
        wanted, after = encode_key(prefix), encode_key(start_after)
        rows = _walk(wanted, after, deep=not delimiter)
        while page := list_of(islice(rows, PAGE_SIZE)):
            yield _page(page)

    def head(self, key: str) -> ObjectInfo:
        """See ``protocols.ObjectStore``."""
        try:
            return _info(key, _regular(_status(encode_key(key)), key))
        except (OSError, ValueError) as error:
            raise _translated(error, key) from error

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """See ``protocols.ObjectStore``. The identity is looked at before and after the read."""
        if length == 0:
            return b""
        try:
            fd = os.open(_path(encode_key(target.key)), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                data = _read_version(fd, target, start, length)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise _translated(error, target.key) from error
        if len(data) != length:
            uri = join_uri(FILE_ROOT, target.key)
            raise StoreUnavailable(f"{uri}: {len(data)} of {length} bytes read", "the file is shorter")
        return data

    def close(self) -> None:
        """See ``protocols.ObjectStore``."""


list_of = list
"""The builtin, whose name the method of the class above hides from it."""


def encode_key(key: str) -> bytes:
    """The bytes of a key of this store."""
    return key.encode("utf-8", "surrogateescape")


def decode_key(key: bytes) -> str:
    """The inverse of :func:`encode_key`."""
    return key.decode("utf-8", "surrogateescape")


def file_etag(status: os.stat_result) -> str:
    """Modification time, size and inode: what changes when a file is written or replaced."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def _path(key: bytes) -> bytes:
    return b"/" + key


def _status(key: bytes) -> os.stat_result:
    return os.stat(_path(key))  # noqa: PTH116 - pathlib has no names in bytes


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, file_etag(status), status.st_mtime_ns)


def _regular(status: os.stat_result, key: str) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise ObjectMissing(f"{join_uri(FILE_ROOT, key)} is not a file", "name a regular file")
    return status


def _read_version(fd: int, target: ObjectId, start: int, length: int) -> bytes:
    _same(_regular(os.fstat(fd), target.key), target)
    data = os.pread(fd, length, start)
    while 0 < len(data) < length and (more := os.pread(fd, length - len(data), start + len(data))):
        data += more  # one pread stops at 2 GiB, and at signals on some file systems
    _same(os.fstat(fd), target)
    return data


def _same(status: os.stat_result, target: ObjectId) -> None:
    if target.etag and file_etag(status) != target.etag:
        uri = join_uri(FILE_ROOT, target.key)
        raise ObjectChanged(f"{uri} has changed since it was listed", "rebuild or refresh the index")


def _translated(error: OSError | ValueError, key: str) -> StoreError:
    uri = join_uri(FILE_ROOT, key)
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError) or error.errno in _NO_NAME:
        return ObjectMissing(f"{uri} is not there", "it was deleted since it was listed")
    if isinstance(error, PermissionError):
        return AccessDenied(f"{uri}: permission denied", "let this user read it")
    return StoreUnavailable(f"{uri}: {error.strerror or error}", "check the file system")


def _page(rows: list_of[_Row]) -> ListPage:
    files = [(decode_key(key), status) for key, status in rows if status is not None]
    return ListPage(
        [key for key, _ in files],
        [status.st_size for _, status in files],
        [file_etag(status) for _, status in files],
        [status.st_mtime_ns for _, status in files],
        [decode_key(key) for key, status in rows if status is None],
    )


def _walk(prefix: bytes, after: bytes, deep: bool) -> Iterator[_Row]:
    """All rows that start with ``prefix`` and are greater than ``after``, in order of their bytes."""
    top = prefix[: prefix.rfind(b"/") + 1]
    try:
        status = _status(top)
    except FileNotFoundError as error:
        raise BucketMissing(
            f"directory {join_uri(FILE_ROOT, decode_key(top))} does not exist", "check the path"
        ) from error
    except NotADirectoryError:
        return  # there is nothing below a file
    except (OSError, ValueError) as error:
        raise _translated(error, decode_key(top)) from error
    yield from _descend(top, prefix, after, deep, ((status.st_dev, status.st_ino),))


def _descend(
    directory: bytes, prefix: bytes, after: bytes, deep: bool, above: tuple[tuple[int, int], ...]
) -> Iterator[_Row]:
    """The rows under ``directory`` (ends in a slash, or is the root's ""); ``above`` finds loops."""
    for key, status in _children(directory, prefix, after):
        if not stat.S_ISDIR(status.st_mode):
            yield key, status
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            continue
        if deep:
            yield from _descend(key, prefix, after, deep, (*above, identity))
        elif key > after:
            yield key, None


def _children(directory: bytes, prefix: bytes, after: bytes) -> list_of[_Stated]:
    """Files and directories of one directory that can hold wanted keys, sorted as keys."""
    rows = []
    try:
        with os.scandir(_path(directory)) as entries:
            for entry in entries:
                if (row := _stated(directory, entry)) is not None and _wanted(row, prefix, after):
                    rows.append(row)
    except FileNotFoundError:
        return []  # removed while it was walked
    except OSError as error:
        raise _translated(error, decode_key(directory)) from error
    rows.sort(key=lambda row: row[0])
    return rows


_Stated = tuple[bytes, os.stat_result]


def _stated(directory: bytes, entry: os.DirEntry[bytes]) -> _Stated | None:
    try:
        status = entry.stat()
    except OSError:  # a broken link, a link to itself, or gone meanwhile
        return None
    if stat.S_ISDIR(status.st_mode):
        return directory + entry.name + b"/", status
    return (directory + entry.name, status) if stat.S_ISREG(status.st_mode) else None


def _wanted(row: _Stated, prefix: bytes, after: bytes) -> bool:
    key, status = row
    if stat.S_ISDIR(status.st_mode):
        inside = key.startswith(prefix) or prefix.startswith(key)
        return inside and (key > after or after.startswith(key))
    return key.startswith(prefix) and key > after
