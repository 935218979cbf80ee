"""The on-disk layout: table names, keys and limits. docs/index-format.md says it byte by byte.

What may live here: constants and the building of LMDB keys. Who may touch it: whoever raises ``FORMAT``.
"""

from __future__ import annotations

import struct

FORMAT = 1
"""Format version, raised with every change that an older reader would misread."""

META, RUNS, INODES, ALIASES, REPORT = TABLES = (b"meta", b"runs", b"inodes", b"aliases", b"report")
INFO_KEY = b"info"

LMDB_KEY_MAX = 511
"""LMDB's compiled-in limit of a key in bytes."""

SORT_KEY_MAX = LMDB_KEY_MAX - 8
"""Bytes of a sort key that fit into a run's key behind the directory's inode number."""

RUN_BYTES = 2 * 4096 - 16
"""Size a full run aims at: LMDB keeps large values in whole pages behind a header of 16 bytes. Two pages
hold 150 to 250 rows: few enough that a random look-up copies little, enough to spread the run's header."""

LABELS_MAX = 1 << 16
"""Labels beyond this number (captions, say) are stored in the runs, so that memory stays bounded."""

_INO = struct.Struct(">Q")
_SPAN = struct.Struct(">II")


HOT = struct.Struct("<I6BHHIQQq")
COLD = struct.Struct("<4BIIHH")
NUMBERS = struct.Struct("<BQ")

HAS_DIRECTORIES, HAS_FILES, HAS_DISPLAYS, HAS_EXTENTS = 1, 2, 4, 8
ETAG_CONSTANT, ETAG_LOWER_HEX, ETAG_UPPER_HEX, ETAG_STRINGS = range(4)
KEY_FOLLOWS_NAME, KEY_STRINGS = range(2)
LABEL_STRINGS = 255
"""Width that says: labels stand here as text, because the table of labels is full."""

HEX_DIGITS = 32
"""Length of an MD5 entity tag in hex: what S3 and OSS give for every object of one part."""

TIME_UNITS = (1_000_000_000, 1_000_000, 1)
"""Nanoseconds of the units in which a run may keep times: S3 lists seconds, MinIO milliseconds."""


def ino_key(ino: int) -> bytes:
    """Eight bytes, big-endian, so that LMDB's byte order is the order of numbers."""
    return _INO.pack(ino)


def ino_of(key: bytes) -> int:
    """The inode number at the beginning of ``key``."""
    value: int = _INO.unpack_from(key)[0]
    return value


def run_key(directory: int, sort_key: bytes) -> bytes:
    """The key of the run whose first child has ``sort_key``; longer sort keys are cut (order is kept)."""
    return _INO.pack(directory) + sort_key[:SORT_KEY_MAX]


def span_value(count: int, row: int, run: bytes) -> bytes:
    """An interval of inode numbers: ``count`` of them, the first in row ``row`` of ``run``."""
    return _SPAN.pack(count, row) + run


def directory_value(parent: int, sort_key: bytes) -> bytes:
    """A directory's place: an interval of count 0, the parent and the whole sort key."""
    return _SPAN.pack(0, 0) + _INO.pack(parent) + sort_key


def parse_place(value: bytes) -> tuple[int, int, bytes]:
    """Count, row and the rest of an interval or a directory's place."""
    count, row = _SPAN.unpack_from(value)
    return count, row, value[_SPAN.size :]
