"""Layout 1 of the disk cache: names, records and geometry. Pure; ``docs/cache-format.md`` is its description.

A change of anything here is a new ``VERSION``: another layout lives in another directory and never meets
this.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import xxhash

VERSION = 1
FOLDER = f"blocks-v{VERSION}"
LOCK_NAME = "lock"
STATE_NAME = "state"
GHOSTS_NAME = "declined"
SEGMENT_NAME = re.compile(r"segment-([0-9a-f]{8})")
TABLE_NAME = re.compile(r"table-([0-9a-f]{8})")

SLOT = struct.Struct("<16sIIQ")
"""Digest, segment, offset within it, checksum. The length is part of the block's identity."""

BUCKET_SLOTS = 32
BUCKET_BYTES = BUCKET_SLOTS * SLOT.size
"""One bucket is one ``pread`` of 1 KiB. 32 slots: at ``FULL`` load 0.3% of buckets overflow, and an overflow
only drops the oldest block."""

FULL = 0.6
"""Load at which the table is doubled."""

LEAST_BUCKETS = 16
TABLE_SHARE = 1 / 4
"""A table is not doubled beyond this part of the capacity: the rest must hold data."""

MIB = 1 << 20
LARGEST_SEGMENT = 256 * MIB
LEAST_SEGMENT = 4 * MIB
"""Large enough for every block that is fetched with one GET by default (``--small-file``)."""

SEGMENTS_WANTED = 128
"""Eviction frees 1/128 of the cache at a time, and the processes' open segments stay a small part of it."""

NUMBERS_SKIPPED = 1 << 16
"""Segment numbers left out when the state was lost: more than were ever alive at once above the newest found.

So a number never comes back, and nobody takes a later segment for the one in which a block was verified.
Where no segment is left to tell, the time in seconds is the first number, and the table is made anew.
"""

LEAST_CAPACITY = 2 * MIB
"""One block of 1 MiB (``--block-size``) with the table and the state beside it, and some air."""

_HEADER = struct.Struct("<8sIIQQQQIIQ")
_RECORD = struct.Struct("<IIIIQ")
_MAGIC = b"ossmount"


def segment_name(number: int) -> str:
    """File name of a segment."""
    return f"segment-{number:08x}"


def table_name(epoch: int) -> str:
    """File name of the table of an epoch."""
    return f"table-{epoch:08x}"


@dataclass(slots=True)
class Segment:
    """One segment's record. ``size`` is what it may grow to (reserved), ``stamp`` the clock of its last read.

    ``full`` says that no process will append to it any more.
    """

    number: int
    size: int
    blocks: int = 0
    full: bool = False
    stamp: int = 0


@dataclass(slots=True)
class State:
    """What all processes share beside the table: small, rewritten as a whole, rebuilt from the file names."""

    capacity: int
    table_epoch: int
    buckets: int
    clock: int = 0
    """Bytes of traffic (see ``shares.Pending``) since the beginning: idle times are differences of it."""
    evicted: int = 0
    """Segments, since the beginning."""
    next_segment: int = 1
    segments: list[Segment] = field(default_factory=list)

    def pack(self) -> bytes:
        """Bytes of the state file."""
        records = b"".join(_RECORD.pack(s.number, s.size, s.blocks, s.full, s.stamp) for s in self.segments)
        fields = (
            VERSION,
            self.table_epoch,
            self.buckets,
            self.capacity,
            self.clock,
            self.evicted,
            self.next_segment,
            len(self.segments),
        )
        checksum = xxhash.xxh3_64_intdigest(_HEADER.pack(_MAGIC, *fields, 0) + records)
        return _HEADER.pack(_MAGIC, *fields, checksum) + records

    @classmethod
    def unpack(cls, data: bytes) -> State:
        """The state in ``data``. Raises ValueError where it is not one that ``pack`` made."""
        if len(data) < _HEADER.size:
            raise ValueError("state is too short")
        magic, version, epoch, buckets, capacity, clock, evicted, following, count, checksum = (
            _HEADER.unpack_from(data)
        )
        records = data[_HEADER.size : _HEADER.size + count * _RECORD.size]
        fields = (version, epoch, buckets, capacity, clock, evicted, following, count)
        plain = _HEADER.pack(_MAGIC, *fields, 0)
        if magic != _MAGIC or version != VERSION or xxhash.xxh3_64_intdigest(plain + records) != checksum:
            raise ValueError("state is damaged")
        segments = [
            Segment(number, size, blocks, bool(full), stamp)
            for number, size, blocks, full, stamp in _RECORD.iter_unpack(records)
        ]
        return cls(capacity, epoch, buckets, clock, evicted, following, segments)

    @staticmethod
    def epoch_in(head: bytes) -> int:
        """The table's epoch from the first 16 bytes of the state, -1 where they are not a state's."""
        magic, version, epoch = struct.unpack("<8sII", head) if len(head) == 16 else (b"", 0, 0)
        return epoch if magic == _MAGIC and version == VERSION else -1

    def reserved(self) -> int:
        """Bytes the directory may grow to as things stand. The hard cap holds for this number."""
        return sum(s.size for s in self.segments) + self.overhead()

    def overhead(self, buckets: int | None = None) -> int:
        """Bytes beside the segments, with a table of ``buckets``."""
        table = (self.buckets if buckets is None else buckets) * BUCKET_BYTES
        return (
            table
            + ghost_entries(self.capacity) * GHOST_BYTES
            + FIXED_OVERHEAD
            + PER_SEGMENT * len(self.segments)
        )

    def live_blocks(self) -> int:
        """Blocks in all segments, as last reported by their writers."""
        return sum(s.blocks for s in self.segments)


GHOST_BYTES = 8
"""Bytes of one entry of the memory of declined blocks."""

FIXED_OVERHEAD = 128 << 10
"""Directory, lock and the state's header, each rounded up to blocks of up to 16 KiB, with room to spare."""

PER_SEGMENT = 4096 + _RECORD.size + 64
"""Rounding of the file to 4 KiB, its record, its directory entry."""


def segment_size(capacity: int) -> int:
    """Bytes of a new segment.

    At least ``LEAST_SEGMENT`` where the capacity allows, 1/128 of it in the middle.
    """
    usable = (
        capacity
        - LEAST_BUCKETS * BUCKET_BYTES
        - ghost_entries(capacity) * GHOST_BYTES
        - FIXED_OVERHEAD
        - PER_SEGMENT
    )
    wanted = min(LARGEST_SEGMENT, max(LEAST_SEGMENT, capacity // SEGMENTS_WANTED))
    return min(usable, wanted)


def first_buckets(capacity: int) -> int:
    """Buckets of a new table: right for blocks of 128 KiB; smaller blocks double it as they come."""
    buckets = LEAST_BUCKETS
    while buckets * BUCKET_SLOTS * FULL * (128 << 10) < capacity and buckets * BUCKET_BYTES < capacity // 64:
        buckets *= 2
    return buckets


def table_crowds(state: State) -> bool:
    """Whether the table, made for a larger capacity, takes room that is to hold data."""
    return state.buckets * BUCKET_BYTES > TABLE_SHARE * state.capacity


def ghost_entries(capacity: int) -> int:
    """Entries (a power of two, 8 bytes each) of the memory of declined blocks: one per 16 KiB of capacity.

    0.05% of the cache; remembers a data set of twice the cache from blocks of 32 KB on.
    """
    wanted = min(max(capacity >> 14, 1024), 4 << 20)
    return 1 << (wanted.bit_length() - 1)
