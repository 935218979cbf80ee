"""The block cache on disk, shared by all processes of all mounts on a host.

What may live here: the path of one block in and out, counters, and what to do when a disk fails. Agreement
between processes is ``folder``'s. Never raises to a reader: every failure is a miss, a counter and, once per
minute, a line in the log.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ossmount.cache.direct import DirectWriter
from ossmount.cache.disk_layout import LEAST_CAPACITY, segment_size
from ossmount.cache.failure_log import FailureLog
from ossmount.cache.files import LOCK_PATIENCE, LockBusy
from ossmount.cache.folder import Folder
from ossmount.cache.identity import checksum_of
from ossmount.cache.residency import LARGEST, Range, ResidentReader, read_ahead
from ossmount.cache.segments import OpenSegments, Verified
from ossmount.cache.shares import Lease, Pending
from ossmount.cache.statistics import CacheStatistics
from ossmount.cache.table import Place, TableGone
from ossmount.errors import CacheError
from ossmount.model import BlockId

_log = logging.getLogger(__name__)

TELL_SHARE = 1024
"""A process tells the others of its traffic every 1/1024 of the capacity: finer than any decision needs.

In small caches every MiB, or 1/64: telling costs as much as some blocks.
"""
TELL_SECONDS = 5.0
"""… and at least that often while it reads, so that a slow reader's segments do not look idle."""
RETRY_SECONDS = 5.0
"""No writes for that long after one failed: a full or dead disk must not slow every read."""


class DiskCache:
    """Blocks in ``directory``/blocks-v1, at most ``capacity_bytes`` on disk, everything included.

    Thread-safe. One instance per process: open it after the fork (a fork's copy only reads). Raises
    CacheError where the directory cannot be used at all. The process that opened last decides on the
    capacity.
    """

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        if capacity_bytes < LEAST_CAPACITY:
            raise CacheError(
                f"cache size of {capacity_bytes} bytes cannot hold one block",
                f"give --cache-size at least {LEAST_CAPACITY >> 20}M, or 0 for no disk cache",
            )
        self._directory = directory
        self._capacity = capacity_bytes
        self._largest = segment_size(capacity_bytes)
        self._counts = CacheStatistics(capacity=capacity_bytes)
        self._tell_bytes = max(min(1 << 20, capacity_bytes // 64), capacity_bytes // TELL_SHARE)
        self._writing = threading.Lock()
        self._direct = DirectWriter()
        self._resident = ResidentReader()
        self._pid = os.getpid()
        self._resume_at = 0.0
        self._closed = False
        try:
            self._open()
        except OSError as error:
            raise CacheError(
                f"cache directory {directory} cannot be used: {error.strerror or error}",
                "give another one with --cache-dir, or --cache-size 0",
            ) from error

    def _open(self) -> None:
        self._folder = Folder(self._directory, self._capacity)
        self._failures = FailureLog(self._folder.path, _log)
        self._segments = OpenSegments(self._folder)
        self._verified = Verified()
        self._lease: Lease | None = None
        self._pending = Pending()
        self._declining = False
        self._next_tell = time.monotonic() + TELL_SECONDS

    def __repr__(self) -> str:
        return f"DiskCache({self._folder!r}, {self._counts!r})"

    # --- out -----------------------------------------------------------------------------------------------

    def get(self, block: BlockId) -> bytes | None:
        """The block's bytes, verified, or None."""
        return self.get_range(block, 0, block.length)

    def get_range(self, block: BlockId, start: int, length: int) -> bytes | None:
        """Bytes ``start`` to ``start + length`` of the block (less at its end), or None.

        The checksum covers the whole block, so the first read of a block by this process reads and verifies
        all of it; later ones read only the part. Segments are never overwritten, only cut to nothing, so
        verified bytes stay right as far as the disk itself does.
        """
        data = self._read(block, start, min(length, block.length - start))
        self._count(None if data is None else len(data))
        return data

    def contains(self, block: BlockId) -> bool:
        """Whether the table knows the block in a living segment.

        Reads no data, counts nothing, proves nothing.
        """
        if self._closed:
            return False
        try:
            return self._find(block.digest()) is not None
        except OSError as error:
            self._failed("look-up", error)
            return False

    def get_resident(self, block: BlockId) -> memoryview | None:
        """As :meth:`get`, what is in memory or soon is, for one thread; it stays until the next call."""
        digest = block.digest()
        try:
            found = None if self._closed or block.length > LARGEST else self._range_of(block, digest)
            if found is None:
                return None
            data = self._resident.read(found[1].file, block.length, found[1].offset)
        except OSError as error:
            self._failed("read", error)
            return None
        if data is None or checksum_of(data, digest) != found[0].checksum:
            return None  # whatever is wrong, the long way will find
        self._pending.touched.add(found[0].segment)
        self._count(len(data))
        return data

    def reading_ahead(self, blocks: Sequence[BlockId]) -> tuple[Sequence[bool], Callable[[], None]]:
        """Which of ``blocks`` it has, and what has the kernel bring those into memory.

        The latter may wait for the disk.
        """
        ranges: list[Range | None] = [None] * len(blocks)
        try:
            for i, block in enumerate(() if self._closed else blocks):
                found = self._range_of(block, block.digest())
                ranges[i] = None if found is None else found[1]
        except OSError as error:
            self._failed("look-up", error)
        return [r is not None for r in ranges], partial(read_ahead, [r for r in ranges if r is not None])

    def _range_of(self, block: BlockId, digest: bytes) -> tuple[Place, Range] | None:
        place = self._find(digest)
        if place is None:
            return None
        file = self._segments.find(place.segment)
        return None if file is None else (place, Range(file, place.offset, block.length))

    def _count(self, found: int | None) -> None:
        """Bytes that were found, if they were."""
        counts, pending = self._counts, self._pending
        if found is None:
            counts.misses += 1
            return
        counts.hits += 1
        counts.hit_bytes += found
        pending.traffic += found
        if pending.traffic > self._tell_bytes or time.monotonic() > self._next_tell:
            self._tell(patience=0.0)

    def _read(self, block: BlockId, start: int, length: int) -> bytes | None:
        if self._closed or start < 0 or length < 0:
            return None
        digest = block.digest()
        try:
            found = self._range_of(block, digest)
            if found is None:
                return None
            place, (file, _, _) = found
            if length < block.length and (digest, place) in self._verified:
                return self._whole(place, os.pread(file.fd, length, place.offset + start), length)
            data = self._whole(place, os.pread(file.fd, block.length, place.offset), block.length)
            if data is None:
                return None
            if checksum_of(data, digest) != place.checksum:
                self._bad(digest, place)
                return None
        except OSError as error:
            self._failed("read", error)
            return None
        if length == block.length:
            return data
        self._verified.add(digest, place)
        return data[start : start + length]

    def _find(self, digest: bytes) -> Place | None:
        try:
            place = self._folder.table.find(digest)
        except TableGone:
            self._folder.refresh()
            place = self._folder.table.find(digest)
        return place if place is None or self._folder.lives(place.segment) else None

    def _whole(self, place: Place, data: bytes, length: int) -> bytes | None:
        """``data`` if it is all that was asked for; less means that the segment was cut: it is evicted."""
        if len(data) == length:
            self._pending.touched.add(place.segment)
            return data
        self._segments.forget(place.segment)
        return None

    def _bad(self, digest: bytes, place: Place) -> None:
        """Forgets a block whose bytes are not what was put, so that it may be put again."""
        self._counts.bad_blocks += 1
        self._failures.tell(f"a block in segment {place.segment} at {place.offset} has a wrong checksum")
        if not self._folder.read_only:
            self._folder.erase(digest, place)

    # --- in ------------------------------------------------------------------------------------------------

    def put(self, block: BlockId, data: bytes) -> None:
        """Keeps ``data`` if the policy finds room.

        Declines blocks without an ETag: nothing tells their versions.
        """
        self.put_many([(block, data)], hurry=True)

    def put_many(self, blocks: Sequence[tuple[BlockId, bytes]], *, hurry: bool = False) -> None:
        """As :meth:`put`, with one write and lock for all that fit. ``hurry``: the page cache takes them."""
        wanted = {block.digest(): data for block, data in blocks if self._acceptable(block, data)}
        self._counts.declined += len(blocks) - len(wanted)
        if not wanted:
            return
        with self._writing:
            try:
                if not self._may_write():
                    self._counts.declined += len(wanted)
                    return
                new = [(d, data) for d, data in wanted.items() if self._find(d) is None]
                self._store_many(new, None if hurry else self._direct)
            except OSError as error:
                self._resume_at = time.monotonic() + RETRY_SECONDS
                self._failed("write", error)

    def _acceptable(self, block: BlockId, data: bytes) -> bool:
        fits = len(data) == block.length and len(data) <= self._largest and bool(block.object.etag)
        return fits and not self._closed and not self._folder.read_only and self._pid == os.getpid()

    def _may_write(self) -> bool:
        """False for a while after a failure; after it, a vanished directory is made anew. Raises OSError."""
        if not self._resume_at:
            return True
        if time.monotonic() < self._resume_at:
            return False
        self._resume_at = 0.0
        if self._folder.vanished():
            try:
                self._open()
            except (OSError, CacheError) as error:
                self._resume_at = time.monotonic() + RETRY_SECONDS
                self._failed("open", error)
                return False
        return True

    def _store_many(self, blocks: list[tuple[bytes, bytes]], direct: DirectWriter | None) -> None:
        """What fits the open segment at once; the block that does not, into another if there is one."""
        while blocks:
            fits = self._lease.fitting([data for _, data in blocks]) if self._lease is not None else 0
            if fits:
                self._append(blocks[:fits], direct)
            else:
                self._store_elsewhere(*blocks[0])
            blocks = blocks[max(1, fits) :]

    def _store_elsewhere(self, digest: bytes, data: bytes) -> None:
        if self._next_lease(digest, len(data)):
            self._append([(digest, data)], None)
            return
        self._counts.declined += 1
        self._pending.traffic += len(data)
        self._tell_in_time()

    def _append(self, blocks: list[tuple[bytes, bytes]], direct: DirectWriter | None) -> None:
        lease = self._lease
        if lease is None:
            return
        size = sum(len(data) for _, data in blocks)
        self._pending.traffic += size
        offsets = lease.append_many([data for _, data in blocks], direct)
        sums = (checksum_of(data, digest) for digest, data in blocks)
        places = [Place(lease.number, offset, value) for offset, value in zip(offsets, sums, strict=True)]
        self._folder.enter_many(zip((digest for digest, _ in blocks), places, strict=True))
        self._counts.stored += len(blocks)
        self._counts.stored_bytes += size
        counted = self._pending.blocks
        counted[lease.number] = counted.get(lease.number, 0) + len(blocks)
        self._tell_in_time()

    def _tell_in_time(self) -> None:
        if self._pending.traffic > self._tell_bytes or self._table_fills():
            self._tell(LOCK_PATIENCE)

    def _table_fills(self) -> bool:
        """Whether this process alone has added a slot per bucket since the load was last looked at."""
        lease = self._lease
        return lease is not None and self._pending.blocks.get(lease.number, 0) > self._folder.table.buckets

    def _next_lease(self, digest: bytes, length: int) -> bool:
        """Whether there is, instead of the open segment, one with room: free or given by the policy."""
        found = None
        if not self._declining:
            found = self._folder.lease(self._taken(), self._lease, length, None)
            self._declining = found is None
        if found is None and (idle := self._required_idle(digest, length)) is not None:
            found = self._folder.lease(self._taken(), self._lease, length, idle)
        self._lease = found or self._lease
        return found is not None

    def _required_idle(self, digest: bytes, length: int) -> int | None:
        """Asks the policy, with the state as last heard."""
        if (newcomers := self._folder.newcomers) is None:
            return None
        now = self._folder.state.clock + self._pending.traffic
        return newcomers.required_idle(digest, length, now, now - self._folder.oldest)

    # --- between processes ---------------------------------------------------------------------------------

    def _taken(self) -> Pending:
        taken, self._pending = self._pending, Pending()
        self._next_tell = time.monotonic() + TELL_SECONDS
        return taken

    def _tell(self, patience: float) -> None:
        """Tells the others of this process's traffic and hears of theirs; room may have come free.

        A reader has no patience: it tells another time, so that a stopped process cannot delay it.
        """
        pending = self._taken()
        if self._folder.read_only or self._pid != os.getpid():
            return
        try:
            self._folder.tell(pending, patience)
        except LockBusy as error:
            self._pending.add(pending)
            self._next_tell = 0.0
            if patience:
                self._failed("update", error)
            return
        except OSError as error:
            self._failed("update", error)
        self._declining = False
        live = self._folder.live
        self._segments.retain(live)
        if self._lease is not None and self._lease.number not in live:
            self._lease = None

    # --- failures, counters --------------------------------------------------------------------------------

    def _failed(self, what: str, error: Exception) -> None:
        self._counts.failures += 1
        self._failures.tell(f"{what} failed: {getattr(error, 'strerror', None) or error}")

    def statistics(self) -> CacheStatistics:
        """Counters of this process; bytes reserved on disk by all processes, as last heard."""
        counts = self._counts.copy()
        counts.bytes = self._folder.state.reserved()
        counts.evictions = self._folder.evictions
        return counts

    def close(self) -> None:
        """Tells the others of the last traffic and closes files; afterwards everything misses."""
        with self._writing:
            if self._closed:
                return
            self._tell(LOCK_PATIENCE)
            self._closed = True
            self._lease = None
            self._segments.clear()
            self._verified.clear()
