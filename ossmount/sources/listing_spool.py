"""What a listing has found so far, on disk: bounds memory, and lets a broken listing go on.

What may live here: the spool file. Who may touch it: whoever raises VERSION with the layout.

**Layout** (version 1): ``MAGIC``, then records. A record is length (4 bytes), xxh3-64 (8 bytes), both
little-endian, and that many bytes of msgpack. The first record is ``[version, source, created]``; every
other ``[after, upto, keys, sizes, etags, mtimes_ns]``: exactly these keys lie in ``(after, upto]`` (upto
nil: to the end). Records come in any order and do not overlap, so nothing else has to be known to go on:
what no record covers is listed again. From the first damaged record on, the rest is cut off.

The file is locked while it is written. Whoever finds it locked uses a nameless file and cannot resume.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgpack  # type: ignore[import-untyped]
import xxhash

from ossmount.model import ListPage
from ossmount.sources.listing_plan import Span

MAGIC = b"ossmount listing\n"
VERSION = 1

MAX_AGE = 24 * 3600.0
"""Seconds after which what was listed is not believed any more: the bucket may be quite another."""

_HEAD = struct.Struct("<IQ")


class Record(NamedTuple):
    """Where a span stands in the file, and how many keys it holds."""

    span: Span
    offset: int
    length: int
    keys: int


class Spool:
    """Spans that are settled, with their keys. Not thread-safe: the caller holds a lock.

    ``path`` None keeps no state: the file has no name. ``source`` says what is listed; a file of another
    source, version or time is begun anew.
    """

    def __init__(self, path: Path | None, source: str, clock: Callable[[], float] = time.time) -> None:
        self._source, self._clock = source, clock
        self._by_start: dict[bytes, Record] = {}
        self._path, self._file = _open(path)
        self._end = 0
        self.keys = 0
        if not self._load():
            self._begin()

    def __repr__(self) -> str:
        return f"Spool({self._path}, {len(self._by_start)} spans, {self.keys} keys)"

    def spans(self) -> list[Span]:
        """What is settled."""
        return [record.span for record in self._by_start.values()]

    def add(self, span: Span, payload: bytes, count: int) -> Record:
        """Appends a settled span: what :func:`pack_page` made of it and its ``count`` keys."""
        record = Record(span, *self._append(payload), count)
        self.note(record)
        return record

    def note(self, record: Record) -> None:
        """Takes note of a span that stands in the file, also where a forked process has put it there."""
        self._by_start[record.span.after] = record
        self.keys += record.keys

    def find(self, start: bytes) -> Record | None:
        """The settled span that begins at ``start``."""
        return self._by_start.get(start)

    def read(self, record: Record) -> tuple[ListPage, bytes | None]:
        """Keys of a span and where it ends. Needs no lock: what is written stays."""
        _, upto, *columns = _unpack(os.pread(self._file.fileno(), record.length, record.offset))
        return ListPage(*columns), upto

    def close(self) -> None:
        """Closes the file and keeps it, unless there is nothing in it to go on from."""
        if not self._by_start:
            self.remove()
        self._file.close()

    def remove(self) -> None:
        """Removes the file: all it knew has arrived."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _append(self, payload: bytes) -> tuple[int, int]:
        head = _HEAD.pack(len(payload), xxhash.xxh3_64_intdigest(payload))
        self._write(head + payload, self._end)
        offset = self._end + _HEAD.size
        self._end = offset + len(payload)
        return offset, len(payload)

    def _write(self, data: bytes, offset: int) -> None:
        """All of ``data``: a disk that is nearly full takes a part, and only then says so."""
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._file.fileno(), rest, offset)
            rest, offset = rest[count:], offset + count

    def _begin(self) -> None:
        self._file.truncate(0)
        self._write(MAGIC, 0)
        self._end = len(MAGIC)
        self._append(_pack([VERSION, self._source, self._clock()]))

    def _load(self) -> bool:
        """Takes over what the file holds; False where it is empty or not ours."""
        if os.pread(self._file.fileno(), len(MAGIC), 0) != MAGIC:
            return False
        self._end = len(MAGIC)
        records = self._records()
        if not self._is_current(next(records, (0, b""))[1]):
            return False
        for offset, payload in records:
            after, upto, keys, *_ = _unpack(payload)
            self.note(Record(Span(after, upto), offset, len(payload), len(keys)))
        self._file.truncate(self._end)
        return True

    def _is_current(self, payload: bytes) -> bool:
        header = _unpack(payload) if payload else []
        if len(header) != 3 or header[:2] != [VERSION, self._source]:
            return False
        return bool(0 <= self._clock() - header[2] <= MAX_AGE)

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Offset and payload of each sound record; ``_end`` follows them."""
        descriptor = self._file.fileno()
        while len(head := os.pread(descriptor, _HEAD.size, self._end)) == _HEAD.size:
            length, digest = _HEAD.unpack(head)
            offset = self._end + _HEAD.size
            payload = os.pread(descriptor, length, offset)
            if len(payload) != length or xxhash.xxh3_64_intdigest(payload) != digest:
                return
            self._end = offset + length
            yield offset, payload


def _open(path: Path | None) -> tuple[Path | None, IO[bytes]]:
    if path is not None:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        except OSError:  # a file system without locks, where nobody could tell whether another process has it
            file.close()
            with suppress(OSError):
                if not path.stat().st_size:
                    path.unlink()
        else:
            return path, file
    # Another process lists the same: beside its spool, since a read-only root may have no other place.
    beside = None if path is None else path.parent
    return None, tempfile.TemporaryFile(prefix="ossmount-", dir=beside, buffering=0)


def pack_page(span: Span, page: ListPage) -> bytes:
    """A settled span as a record holds it."""
    columns = (page.keys, page.sizes, page.etags, page.mtimes_ns)
    return _pack([span.after, span.upto, *map(list, columns)])


def _pack(value: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    return packed


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, unicode_errors="surrogateescape")
