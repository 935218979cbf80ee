"""The catalogue: a hash table in a file, from a block's digest to its place. Shared by all processes.

Buckets of 32 slots of 32 bytes; a digest can only be in its own bucket, so finding is one ``pread``. Readers
take no lock: whatever they see half-written fails the checksum of the data. Writers hold the cache's lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from ossmount.cache.disk_layout import BUCKET_BYTES, SLOT
from ossmount.cache.files import File, write_all
from ossmount.cache.residency import read_resident

READ_WHOLE = 64 << 20
"""Bytes of a table that is read as a whole, on opening and where a part is missing: two million blocks, 30 ms
of a quick disk, half a second of a slow one."""

AHEAD_SECONDS = 1.0
"""… at most so often: memory that is too short for the table gives it up again at once."""

_EMPTY = bytes(16)
_GROWTH_CHUNK = 8 << 20
"""Bytes of old table that are doubled at a time: bounds the memory of growing."""


class Place(NamedTuple):
    """Where a block lies: segment number, offset within it, and the checksum of its bytes."""

    segment: int
    offset: int
    checksum: int


class TableGone(OSError):
    """The table was replaced by a larger one (its file is cut to nothing) or damaged: look at the state."""


class Table:
    """One table file of ``buckets`` (a power of two) buckets."""

    def __init__(self, file: File, buckets: int) -> None:
        self._file = file
        self.buckets = buckets
        self._mask = buckets - 1
        self._next_ahead = 0.0

    def __repr__(self) -> str:
        return f"Table({self.buckets} buckets, {self._file!r})"

    def _bucket(self, digest: bytes) -> tuple[int, bytes]:
        start = (int.from_bytes(digest[:8], "little") & self._mask) * BUCKET_BYTES
        bucket = read_resident(self._file, BUCKET_BYTES, start)
        if bucket is None:
            self.read_ahead()
            bucket = os.pread(self._file.fd, BUCKET_BYTES, start)
        if len(bucket) != BUCKET_BYTES:
            raise TableGone(errno.ESTALE, "table replaced")
        return start, bucket

    def read_ahead(self) -> None:
        """Has the kernel read a moderate table in one go: page by page, as look-ups need it, takes longer."""
        size = self.buckets * BUCKET_BYTES
        if size <= READ_WHOLE and time.monotonic() >= self._next_ahead:
            self._next_ahead = time.monotonic() + AHEAD_SECONDS
            with contextlib.suppress(OSError):  # it is advice; and nobody waits here, which may be a loop
                os.posix_fadvise(self._file.fd, 0, size, os.POSIX_FADV_WILLNEED)

    def find(self, digest: bytes) -> Place | None:
        """The block's place as the table has it, or None. Raises TableGone, OSError."""
        _start, bucket = self._bucket(digest)
        at = _aligned(bucket, digest)
        if at < 0:
            return None
        _digest, segment, offset, checksum = SLOT.unpack_from(bucket, at)
        return Place(segment, offset, checksum)

    def insert(self, digest: bytes, place: Place, lives: Callable[[int], bool]) -> None:
        """Enters a place, over the block's older one, an empty slot, a dead segment's or the oldest.

        ``lives`` tells whether a segment number is still in the cache. Raises TableGone, OSError.
        """
        start, bucket = self._bucket(digest)
        at = _aligned(bucket, digest)
        if at < 0:
            at = _free(bucket)
        if at < 0:
            at = _least_valuable(bucket, lives)
        write_all(self._file.fd, SLOT.pack(digest, *place), start + at)

    def erase(self, digest: bytes, place: Place) -> None:
        """Empties the block's slot if it still says ``place``. Raises TableGone, OSError."""
        start, bucket = self._bucket(digest)
        at = _aligned(bucket, digest)
        if at >= 0 and bucket[at : at + SLOT.size] == SLOT.pack(digest, *place):
            write_all(self._file.fd, bytes(SLOT.size), start + at)

    def double_into(self, target: File) -> None:
        """Writes a table of twice the buckets to ``target``: bucket b's slots go to b or b + buckets.

        Order within a bucket means nothing, so each half is the old table with the other half's slots
        blanked.
        """
        import numpy as np  # imported where a table grows: a process that only reads does without its 20 MB

        size = self.buckets * BUCKET_BYTES
        for start in range(0, size, _GROWTH_CHUNK):
            raw = os.pread(self._file.fd, min(_GROWTH_CHUNK, size - start), start)
            if len(raw) != min(_GROWTH_CHUNK, size - start):
                raise TableGone(errno.ESTALE, "table cut short")
            slots = np.frombuffer(raw, dtype="<u8").reshape(-1, SLOT.size // 8)
            upper = (slots[:, 0] & np.uint64(self.buckets)) != 0
            write_all(target.fd, np.where(upper[:, None], np.uint64(0), slots).tobytes(), start)
            write_all(target.fd, np.where(upper[:, None], slots, np.uint64(0)).tobytes(), size + start)


def _aligned(bucket: bytes, digest: bytes) -> int:
    """Position of the slot that begins with ``digest``, or -1. Slots' other fields may look like a digest."""
    at = bucket.find(digest)
    while at >= 0 and at % SLOT.size:
        at = bucket.find(digest, at + 1)
    return at


def _free(bucket: bytes) -> int:
    for at in range(0, BUCKET_BYTES, SLOT.size):
        if bucket.startswith(_EMPTY, at):
            return at
    return -1


def _least_valuable(bucket: bytes, lives: Callable[[int], bool]) -> int:
    oldest, oldest_at = 1 << 32, 0
    for index, (_digest, segment, _offset, _checksum) in enumerate(SLOT.iter_unpack(bucket)):
        if not lives(segment):
            return index * SLOT.size
        if segment < oldest:
            oldest, oldest_at = segment, index * SLOT.size
    return oldest_at
