"""The cache's directory: its state, table and segments, and every change of them that needs the lock.

What may live here: what processes must agree on (room, eviction, table growth, crash repair). Reading and
writing of blocks is ``disk``'s, decisions are ``policy``'s, numbers are ``disk_layout``'s.

Every change is: take the lock, read the state, change it, write it. Reservations are written before the files
they are for, so the cap holds at every moment; a crash in between leaves room reserved, never exceeded.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from ossmount.cache import disk_layout as layout
from ossmount.cache.disk_layout import BUCKET_BYTES, BUCKET_SLOTS, FULL, Segment, State
from ossmount.cache.files import (
    READ_ONLY,
    File,
    SharedLock,
    make_directory,
    refuse_world_writable,
    try_lock,
    write_all,
)
from ossmount.cache.newcomers import Newcomers
from ossmount.cache.shares import Lease, Pending
from ossmount.cache.table import Place, Table

_log = logging.getLogger(__name__)


class Folder:
    """One open cache directory. Create it after the fork; close by dropping it."""

    def __init__(self, directory: Path, capacity: int) -> None:
        """Opens or creates ``directory``/blocks-v1. Raises OSError, CacheError."""
        self.path = directory / layout.FOLDER
        self._capacity = capacity
        self.read_only = not make_directory(self.path)
        self._dir = File(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        refuse_world_writable(self.path, self._dir)
        self.state: State
        self.newcomers: Newcomers | None = None  # stays None where nothing can be put
        self.live: set[int] = set()
        """Numbers of the segments in the cache, as last heard."""
        self.oldest = 0
        """The clock of the last read of the most idle one."""
        self.evictions = 0
        """Segments that this process has evicted."""
        try:
            self._open_writable()
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            self.read_only = True
            self._open_read_only()

    def __repr__(self) -> str:
        mode = "read-only" if self.read_only else "read-write"
        return f"Folder({str(self.path)!r}, {mode}, {len(self.live)} segments, {self.table!r})"

    # --- opening -------------------------------------------------------------------------------------------

    def _open_writable(self) -> None:
        if self.read_only:
            raise OSError(errno.EROFS, "read-only")
        self.lock = SharedLock(self._file(layout.LOCK_NAME, os.O_RDWR | os.O_CREAT))
        self._state_file = self._file(layout.STATE_NAME, os.O_RDWR | os.O_CREAT)
        with self.lock:
            state = self._repaired(self._load_or_none())
            state.capacity = self._capacity
            if layout.table_crowds(state):
                self._begin_anew(state)
            self._trim(state)
            self._store(state)
            self._open_table(state)

    def _open_read_only(self) -> None:
        """Reads what is there; nothing can be locked, put or evicted."""
        self._state_file = self._file(layout.STATE_NAME, os.O_RDONLY)
        state = self._load_or_none()
        if state is None:
            raise OSError(errno.EROFS, "read-only, and its state is damaged")
        self._open_table(state)

    def _file(self, name: str, flags: int) -> File:
        """A file of this very directory: after it has vanished, one of the same path is none of ours."""
        return File(os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=self._dir.fd))

    def _load_or_none(self) -> State | None:
        try:
            return self._load()
        except ValueError:
            return None

    def _load(self) -> State:
        fd = self._state_file.fd
        return State.unpack(os.pread(fd, os.fstat(fd).st_size, 0))

    def _store(self, state: State) -> None:
        write_all(self._state_file.fd, state.pack(), 0)
        self._see(state)

    def _see(self, state: State) -> None:
        self.state = state
        self.live = {s.number for s in state.segments}
        self.oldest = min((s.stamp for s in state.segments), default=state.clock)
        known = self.newcomers is not None and self.newcomers.capacity == state.capacity
        if not known and not self.read_only:
            ghosts = self._file(layout.GHOSTS_NAME, os.O_RDWR | os.O_CREAT)
            self.newcomers = Newcomers(ghosts, state.capacity)

    def _open_table(self, state: State) -> None:
        """Opens the table that the state names; where it is missing or not of its size, an empty one."""
        self._see(state)
        flags = os.O_RDONLY if self.read_only else os.O_RDWR
        with contextlib.suppress(FileNotFoundError):
            file = self._file(layout.table_name(state.table_epoch), flags)
            if os.fstat(file.fd).st_size == state.buckets * BUCKET_BYTES:
                self.table = Table(file, state.buckets)
                self.table.read_ahead()
                return
        if self.read_only:
            raise OSError(errno.EROFS, "read-only, and its table is damaged")
        self._remove(layout.table_name(state.table_epoch))
        state.table_epoch += 1
        file = self._file(layout.table_name(state.table_epoch), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.ftruncate(file.fd, state.buckets * BUCKET_BYTES)
        self._store(state)
        self.table = Table(file, state.buckets)

    # --- repair --------------------------------------------------------------------------------------------

    def _repaired(self, state: State | None) -> State:
        """The state brought in line with the files that are there (a crash may have come between the two)."""
        names = [entry.name for entry in os.scandir(self._dir.fd)]
        sizes = self._sizes(names, layout.SEGMENT_NAME)
        for number in [n for n, size in sizes.items() if size > layout.LARGEST_SEGMENT]:
            self._remove(layout.segment_name(number))  # not ours: no segment gets that large
            del sizes[number]
        if state is None:
            state = self._guessed(self._sizes(names, layout.TABLE_NAME), sizes)
        state.segments = [s for s in state.segments if s.number in sizes]
        known = {s.number for s in state.segments}
        estimate = int(state.buckets * BUCKET_SLOTS * FULL / 2) // max(1, len(sizes))
        for number in sorted(sizes.keys() - known):
            state.segments.append(self._found(number, sizes[number], estimate, state.clock))
        state.next_segment = max([state.next_segment, *(s.number + 1 for s in state.segments)])
        for epoch in self._sizes(names, layout.TABLE_NAME):
            if epoch != state.table_epoch:
                self._remove(layout.table_name(epoch))
        return state

    def _found(self, number: int, size: int, blocks: int, clock: int) -> Segment:
        """The record of a segment that the state does not know. Its writer, if it lives, may fill it up."""
        file = self._file(layout.segment_name(number), os.O_RDONLY)
        if try_lock(file.fd):
            return Segment(number, max(size, 1), blocks, full=True, stamp=clock)
        return Segment(number, max(size, layout.segment_size(self._capacity)), blocks, stamp=clock)

    def _guessed(self, tables: dict[int, int], segments: dict[int, int]) -> State:
        """A state without memory: the newest complete table (if it has segments), no clock.

        The segments are added by the caller.
        """
        if segments:
            _log.warning("cache %s: state damaged, rebuilt from %d segments", self.path, len(segments))
        state = State(self._capacity, max(tables, default=0) + 1, layout.first_buckets(self._capacity))
        state.next_segment = max(max(segments, default=0) + layout.NUMBERS_SKIPPED, int(time.time()))
        for epoch in sorted(tables, reverse=True) if segments else ():
            buckets = tables[epoch] // BUCKET_BYTES
            if buckets >= layout.LEAST_BUCKETS and buckets & (buckets - 1) == 0:
                state.table_epoch, state.buckets = epoch, buckets
                break
        return state

    def _sizes(self, names: Iterable[str], pattern: re.Pattern[str]) -> dict[int, int]:
        matches = [m for name in names if (m := pattern.fullmatch(name))]
        return {int(m[1], 16): os.stat(m[0], dir_fd=self._dir.fd).st_size for m in matches}

    def vanished(self) -> bool:
        """Whether the path no longer leads to this directory. Raises OSError where the disk does not tell."""
        try:
            there = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        here = os.fstat(self._dir.fd)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    # --- reading -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Reads the state and opens the table anew: another process has replaced it. Raises OSError."""
        if self.read_only:
            self._open_read_only()
            return
        with self.lock:
            self._open_table(self._loaded())

    def open_segment(self, number: int) -> File:
        """Raises FileNotFoundError where the segment was evicted."""
        return self._file(layout.segment_name(number), os.O_RDONLY)

    def lives(self, number: int) -> bool:
        """Whether the segment is in the cache, as far as this process has heard. New ones count as living."""
        return number in self.live or number >= self.state.next_segment

    # --- changes under the lock ----------------------------------------------------------------------------

    def enter_many(self, blocks: Iterable[tuple[bytes, Place]]) -> None:
        """Makes blocks that lie in a segment findable, in one turn of the lock. Raises OSError."""
        with self.lock:
            self._newest_table()
            for digest, place in blocks:
                self.table.insert(digest, place, self.lives)

    def erase(self, digest: bytes, place: Place) -> None:
        """Forgets a block that proved bad. Raises OSError."""
        with self.lock:
            self._newest_table()
            self.table.erase(digest, place)

    def _newest_table(self) -> None:
        if State.epoch_in(os.pread(self._state_file.fd, 16, 0)) != self.state.table_epoch:
            self._open_table(self._loaded())

    def _loaded(self) -> State:
        """The state as it is now, repaired where it was damaged. Needs the lock."""
        return self._load_or_none() or self._repaired(None)

    def tell(self, pending: Pending, patience: float) -> None:
        """Adds what this process did to the shared state, hears what the others did, grows the table.

        Raises LockBusy where the lock is not free within ``patience`` seconds: nothing was told then.
        """
        self.lock.acquire(patience)
        try:
            self._tell(pending)
        finally:
            self.lock.release()

    def _tell(self, pending: Pending) -> State:
        state = self._loaded()
        if state.table_epoch != self.state.table_epoch:
            self._open_table(state)
        state.clock += pending.traffic
        for segment in state.segments:
            if segment.number in pending.touched:
                segment.stamp = state.clock
            segment.blocks += pending.blocks.get(segment.number, 0)
        if state.live_blocks() > FULL * BUCKET_SLOTS * state.buckets:
            self._grow(state)
        self._store(state)
        return state

    def lease(self, pending: Pending, old: Lease | None, length: int, idle: int | None) -> Lease | None:
        """A segment with room for ``length`` bytes, in exchange for the full one; None where there is none.

        In this order: one that a dead process left unfinished; free room; with ``idle`` given, the most idle
        segment's, if it was not read for more than ``idle`` bytes of traffic. Raises OSError.
        """
        with self.lock:
            state = self._tell(pending)
            self._trim(state)
            lease = self._adopted(state, length) or self._fresh(state, length, idle)
            for segment in state.segments:
                if lease is not None and old is not None and segment.number == old.number:
                    segment.full = True
            self._store(state)
            return lease

    def _adopted(self, state: State, length: int) -> Lease | None:
        for segment in [s for s in state.segments if not s.full]:
            file = self._locked(state, segment)
            if file is None:
                continue
            position = os.fstat(file.fd).st_size
            if position + length <= segment.size:
                return Lease(segment.number, file, segment.size, position)
            segment.full = True
        return None

    def _locked(self, state: State, segment: Segment) -> File | None:
        """The segment's file where no process appends to it; else it is in use now, and not for eviction.

        A record without a file is dropped: whoever made it died before the file, or its file was removed,
        and under that number nobody may write again.
        """
        try:
            file = self._file(layout.segment_name(segment.number), os.O_RDWR)
        except FileNotFoundError:
            state.segments.remove(segment)
            return None
        if try_lock(file.fd):
            return file
        segment.stamp = state.clock
        return None

    def _fresh(self, state: State, length: int, idle: int | None) -> Lease | None:
        size = layout.segment_size(state.capacity)
        if length > size or not self._make_room(state, size + layout.PER_SEGMENT, idle):
            return None
        segment = Segment(state.next_segment, size, stamp=state.clock)
        state.next_segment += 1
        state.segments.append(segment)
        self._store(state)
        file = self._file(layout.segment_name(segment.number), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        return Lease(segment.number, file, size, 0) if try_lock(file.fd) else None

    def _make_room(self, state: State, wanted: int, idle: int | None) -> bool:
        """Evicts the most idle segments until ``wanted`` bytes fit; those idle for ``idle`` or less stay."""
        for segment in sorted(state.segments, key=lambda s: s.stamp):
            if state.reserved() + wanted <= state.capacity:
                return True
            if idle is None or state.clock - segment.stamp <= idle:
                return False
            self._evict(state, segment)
        return state.reserved() + wanted <= state.capacity

    def _begin_anew(self, state: State) -> None:
        """Empties the cache; its table gets the size for the capacity when it is opened next."""
        _log.info("cache %s: emptied, its table is too large for %d bytes", self.path, state.capacity)
        for segment in list(state.segments):
            self._evict(state, segment)
        state.buckets = layout.first_buckets(state.capacity)

    def _trim(self, state: State) -> None:
        """Down to the capacity, if it was lowered. Segments being written stay until they are full."""
        self._make_room(state, 0, -1)

    def _evict(self, state: State, segment: Segment) -> None:
        """Frees a segment's space, at once: readers may still hold it open, so it is cut before it goes.

        Nobody may append to it from then on, even where this process dies before the record is dropped: who
        verified a block there reads later parts of it unverified.
        """
        file = self._locked(state, segment)
        if file is None:
            return
        segment.full = True
        self._store(state)  # always: what is said here may not have been written yet
        os.ftruncate(file.fd, 0)
        os.unlink(layout.segment_name(segment.number), dir_fd=self._dir.fd)
        state.segments.remove(segment)
        state.evicted += 1
        self.evictions += 1

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            file = self._file(name, os.O_RDWR)
            os.ftruncate(file.fd, 0)
            os.unlink(name, dir_fd=self._dir.fd)

    def _grow(self, state: State) -> None:
        """Doubles the table beside the old one.

        Both count while both exist; no room or too large: it stays.
        """
        size = 2 * state.buckets * BUCKET_BYTES
        if size > layout.TABLE_SHARE * state.capacity or not self._make_room(state, size, 0):
            return
        old = layout.table_name(state.table_epoch)
        new = layout.table_name(state.table_epoch + 1)
        self._remove(new)
        file = self._file(new, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            self.table.double_into(file)
        except OSError:
            self._remove(new)
            return
        state.table_epoch += 1
        state.buckets *= 2
        self._store(state)
        self.table = Table(file, state.buckets)
        self._remove(old)
