"""Runs: some hundred consecutive children of one directory in one value, column by column.

What may live here: the encoding of a run and random access to its rows; no LMDB, no tree. Who may touch
it: whoever raises ``layout.FORMAT`` and writes the change into docs/index-format.md.

A row's *sort key* is its original component, with ``/`` behind it for a directory; rows stand in order of
their sort keys. The name in the tree is the component unless the row has a *display* name. A directory's
row keeps the number of its links in the column of sizes.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

from ossmount.index import columns
from ossmount.index.columns import decode_numbers, encode_numbers, encode_strings, number_at
from ossmount.model import Attributes, Kind

_HOT = struct.Struct("<I6BHHIQQq")
_COLD = struct.Struct("<4BIIHH")
_NUMBERS = struct.Struct("<BQ")

HAS_DIRECTORIES, HAS_FILES, HAS_DISPLAYS, HAS_EXTENTS = 1, 2, 4, 8
ETAG_CONSTANT, ETAG_LOWER_HEX, ETAG_UPPER_HEX, ETAG_STRINGS = range(4)
KEY_FOLLOWS_NAME, KEY_STRINGS = range(2)
LABEL_STRINGS = 255
"""Width that says: labels stand here as text, because the table of labels is full."""

HEX_DIGITS = 32
"""Length of an MD5 entity tag in hex: what S3 and OSS give for every object of one part."""

TIME_UNITS = (1_000_000_000, 1_000_000, 1)
"""Nanoseconds of the units in which a run may keep times: S3 lists seconds, MinIO milliseconds."""

FILE, DIRECTORY = Kind.FILE, Kind.DIRECTORY


class FileFacts(NamedTuple):
    """What a file's row says of its object. ``label`` is a number, a text or None."""

    store: int
    key: str
    etag: str
    offset: int
    length: int
    size: int
    label: int | str | None


@dataclass(slots=True)
class Rows:
    """A run in memory. ``labels`` holds numbers (0: none) unless ``label_texts`` is given.

    ``sizes`` are whole objects' sizes (directories: links). ``offsets``/``lengths`` are None where every
    extent is the whole object. In rows of directories stores, keys, etags and labels mean nothing.
    """

    sort_keys: list[bytes]
    inos: list[int]
    sizes: list[int]
    mtimes_ns: list[int]
    stores: list[int]
    keys: list[str]
    etags: list[str]
    labels: list[int]
    label_texts: list[str | None] | None = None
    offsets: list[int] | None = None
    lengths: list[int] | None = None
    displays: Mapping[int, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The run's value."""
        count = len(self.sort_keys)
        prefix = common_prefix(self.sort_keys[0], self.sort_keys[-1])
        suffixes = [key[len(prefix) :] for key in self.sort_keys] if prefix else self.sort_keys
        text = b"".join(suffixes)
        flags = self._flags(text)
        if flags & HAS_DIRECTORIES:
            self._fill_directories(flags)
        name_width, name_length, name_column = _encode_offsets(suffixes, len(text))
        ino_width, ino_base, ino_column = _encode_inos(self.inos)
        size_width, size_base, size_column = encode_numbers(self.sizes)
        unit, times = _scale_times(self.mtimes_ns)
        time_width, time_base, time_column = encode_numbers(times)
        hot = b"".join((prefix, name_column, ino_column, size_column, time_column, text))
        header = _HOT.pack(
            count, flags, name_width, ino_width, size_width, time_width, unit,
            len(prefix), name_length, _HOT.size + len(hot), ino_base, size_base, time_base,
        )  # fmt: skip
        return b"".join((header, hot, self._encode_cold(flags)))

    def _flags(self, text: bytes) -> int:
        directories = 1 if b"/" in text else sum(key.endswith(b"/") for key in self.sort_keys[:1])
        flags = HAS_DIRECTORIES if directories else 0
        if not directories or not all(key.endswith(b"/") for key in self.sort_keys):
            flags |= HAS_FILES
        return flags | (HAS_DISPLAYS if self.displays else 0) | (HAS_EXTENTS if self.offsets else 0)

    def _fill_directories(self, flags: int) -> None:
        """Gives the rows of directories values that cost nothing in columns that mean nothing there."""
        model = next((i for i, key in enumerate(self.sort_keys) if not key.endswith(b"/")), 0)
        prefix = _key_prefix(self.keys[model], self.sort_keys[model]) if flags & HAS_FILES else ""
        for i, sort_key in enumerate(self.sort_keys):
            if sort_key.endswith(b"/"):
                self.keys[i] = (prefix or "") + decode_text(sort_key)
                self.etags[i] = self.etags[model]
                self.stores[i], self.labels[i] = self.stores[model], self.labels[model]
                if self.label_texts is not None:
                    self.label_texts[i] = self.label_texts[model]
                if self.offsets is not None and self.lengths is not None:
                    self.offsets[i], self.lengths[i] = 0, self.sizes[i]

    def _encode_cold(self, flags: int) -> bytes:
        etag_kind, etag_length, etag_column = _encode_etags(self.etags)
        key_kind, key_prefix, key_column = _encode_keys(self.keys, self.sort_keys)
        store_width, store_base, store_column = encode_numbers(self.stores)
        if self.label_texts is None:
            label_width, label_base, label_column = encode_numbers(self.labels)
        else:
            texts = [b"" if text is None else b"=" + encode_text(text) for text in self.label_texts]
            label_width, label_base, label_column = LABEL_STRINGS, 0, encode_strings(texts)
        header = _COLD.pack(
            label_width, store_width, etag_kind, key_kind,
            label_base, store_base, len(key_prefix), etag_length,
        )  # fmt: skip
        extents = self._encode_extents() if flags & HAS_EXTENTS else b""
        count = len(self.sort_keys)
        displays = [self.displays.get(i, b"") for i in range(count)] if flags & HAS_DISPLAYS else None
        return b"".join(
            (header, key_prefix, label_column, store_column, extents, etag_column, key_column,
             encode_strings(displays) if displays else b"")
        )  # fmt: skip

    def _encode_extents(self) -> bytes:
        parts = []
        for values in (self.offsets or (), self.lengths or ()):
            width, base, column = encode_numbers(values)
            parts += [_NUMBERS.pack(width, base), column]
        return b"".join(parts)


def encode_text(text: str) -> bytes:
    """UTF-8, with bytes that were not UTF-8 kept as they were (``os.fsdecode``)."""
    return text.encode("utf-8", "surrogateescape")


def decode_text(data: bytes) -> str:
    """The inverse of :func:`encode_text`."""
    return data.decode("utf-8", "surrogateescape")


def common_prefix(first: bytes, last: bytes) -> bytes:
    """What all of a sorted sequence begins with, from its first and last member."""
    length = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        length += 1
    return first[:length]


def _encode_offsets(suffixes: Sequence[bytes], total: int) -> tuple[int, int, bytes]:
    """Width, fixed length and column of n + 1 offsets; width 0 where all have one length."""
    lengths = list(map(len, suffixes))
    if lengths.count(lengths[0]) == len(lengths):
        return 0, lengths[0], b""
    width = columns.width_for(total)
    return width, 0, columns.pack(list(accumulate(lengths, initial=0)), width)


def _encode_inos(inos: Sequence[int]) -> tuple[int, int, bytes]:
    """Like numbers, except that width 0 means consecutive numbers."""
    first = inos[0]
    if inos[-1] - first == len(inos) - 1 and list(inos) == list(range(first, first + len(inos))):
        return 0, first, b""
    width, base, column = encode_numbers(inos)
    return (width, base, column) if width else (1, base, bytes(len(inos)))


def _scale_times(times: list[int]) -> tuple[int, list[int]]:
    """The coarsest unit that keeps ``times`` exactly, and the times in it."""
    for unit, nanoseconds in enumerate(TIME_UNITS[:-1]):
        if not any(time % nanoseconds for time in times):
            return unit, [time // nanoseconds for time in times]
    return len(TIME_UNITS) - 1, times


def _encode_etags(etags: list[str]) -> tuple[int, int, bytes]:
    """Kind, length of a constant, column."""
    if etags.count(etags[0]) == len(etags):
        constant = encode_text(etags[0])
        return ETAG_CONSTANT, len(constant), constant
    joined = "".join(etags)
    if len(joined) == HEX_DIGITS * len(etags) and set(map(len, etags)) == {HEX_DIGITS}:
        raw = _from_hex(joined)
        if raw is not None and raw.hex() == joined:
            return ETAG_LOWER_HEX, 0, raw
        if raw is not None and raw.hex().upper() == joined:
            return ETAG_UPPER_HEX, 0, raw
    return ETAG_STRINGS, 0, encode_strings([encode_text(etag) for etag in etags])


def _from_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _key_prefix(key: str, name: bytes) -> str | None:
    """What stands before ``name`` in ``key``; None where the key does not end with it."""
    text = decode_text(name)
    return key[: len(key) - len(text)] if key.endswith(text) else None


def _encode_keys(keys: list[str], sort_keys: list[bytes]) -> tuple[int, bytes, bytes]:
    """Kind, prefix, column."""
    guess = _key_prefix(keys[0], sort_keys[0])
    if guess is not None:
        prefix = encode_text(guess)
        if encode_text("\0".join(keys)) == prefix + (b"\0" + prefix).join(sort_keys):
            return KEY_FOLLOWS_NAME, prefix, b""
    texts = [encode_text(key) for key in keys]
    prefix = common_prefix(min(texts), max(texts))[:0xFFFF]
    return KEY_STRINGS, prefix, encode_strings([text[len(prefix) :] for text in texts])


class Run:
    """A run's value, opened: row access without decoding what is not asked for."""

    __slots__ = (
        "_cold", "_data", "_ino_base", "_ino_width", "_inos_at", "_name_length", "_name_width",
        "_names_at", "_offsets_at", "_prefix_length", "_size_base", "_size_width", "_sizes_at",
        "_time_base", "_time_unit", "_time_width", "_times_at", "count", "flags",
    )  # fmt: skip

    _ino_base: int
    _size_base: int
    _time_base: int
    _name_length: int

    def __init__(self, data: bytes) -> None:
        self._data = data
        (
            self.count, self.flags, self._name_width, self._ino_width, self._size_width, self._time_width,
            unit, self._prefix_length, self._name_length, self._cold,
            self._ino_base, self._size_base, self._time_base,
        ) = _HOT.unpack_from(data)  # fmt: skip
        count = self.count
        self._time_unit = TIME_UNITS[unit]
        self._offsets_at = _HOT.size + self._prefix_length
        self._inos_at = self._offsets_at + ((count + 1) * self._name_width)
        self._sizes_at = self._inos_at + count * self._ino_width
        self._times_at = self._sizes_at + count * self._size_width
        self._names_at = self._times_at + count * self._time_width

    def find(self, sort_key: bytes) -> int:
        """The first row whose sort key is not less than ``sort_key``; ``count`` if there is none."""
        prefix = self._data[_HOT.size : self._offsets_at]
        if not sort_key.startswith(prefix):
            return 0 if sort_key < prefix else self.count
        target, data, start = sort_key[len(prefix) :], self._data, self._names_at
        if not self._name_width:
            length = self._name_length
            return bisect_left(
                range(self.count), target, key=lambda i: data[start + i * length : start + (i + 1) * length]
            )
        width = self._name_width
        offsets = columns.view(data, self._offsets_at, width, self.count + 1)
        return bisect_left(
            range(self.count), target, key=lambda i: data[start + offsets[i] : start + offsets[i + 1]]
        )

    def row_of(self, sort_key: bytes) -> int:
        """The first row with exactly that sort key, -1 if there is none.

        Searches the text as a whole, which takes a fraction of a bisection in Python; only where the key
        also occurs inside another one is it looked for row by row.
        """
        data, start = self._data, self._names_at
        prefix = data[_HOT.size : self._offsets_at]
        if not sort_key.startswith(prefix):
            return -1
        target = sort_key[len(prefix) :]
        at = data.find(target, start, self._cold) - start
        if at < 0:
            return -1
        length, width = self._name_length, self._name_width
        if not width:
            row, inside = divmod(at, length) if length else (0, 0)
            if not inside:
                return row if len(target) == length else -1
        else:
            offsets = columns.view(data, self._offsets_at, width, self.count + 1)
            row = bisect_left(offsets, at)
            if offsets[row] == at and row < self.count and offsets[row + 1] - at == len(target):
                return row
        row = self.find(sort_key)
        return row if row < self.count and self.sort_key(row) == sort_key else -1

    def sort_key(self, row: int) -> bytes:
        """One row's sort key."""
        if self._name_width:
            first = number_at(self._data, self._offsets_at, self._name_width, row)
            behind = number_at(self._data, self._offsets_at, self._name_width, row + 1)
        else:
            first, behind = row * self._name_length, (row + 1) * self._name_length
        start = self._names_at
        return self._data[_HOT.size : self._offsets_at] + self._data[start + first : start + behind]

    def is_directory(self, row: int) -> bool:
        """What the row is."""
        flags = self.flags
        if not flags & HAS_DIRECTORIES:
            return False
        return not flags & HAS_FILES or self.sort_key(row).endswith(b"/")

    def ino(self, row: int) -> int:
        """The row's inode number."""
        if not self._ino_width:
            return self._ino_base + row
        return self._ino_base + number_at(self._data, self._inos_at, self._ino_width, row)

    def attributes(self, row: int) -> Attributes:
        """The row's attributes."""
        size, time = self._size_base, self._time_base
        if self._size_width:
            size += number_at(self._data, self._sizes_at, self._size_width, row)
        if self._time_width:
            time += number_at(self._data, self._times_at, self._time_width, row)
        time *= self._time_unit
        if self.flags & HAS_DIRECTORIES and self.is_directory(row):
            return Attributes(self.ino(row), DIRECTORY, 0, time, size)
        if self.flags & HAS_EXTENTS:
            size = Cold(self, self._data, self._cold).length(row)
        return Attributes(self.ino(row), FILE, size, time, 1)

    def display(self, row: int) -> bytes:
        """The row's display name, b"" where the component is the name."""
        return self.cold().display(row) if self.flags & HAS_DISPLAYS else b""

    def displays(self) -> dict[int, bytes]:
        """The rows that have a display name."""
        return self.cold().displays() if self.flags & HAS_DISPLAYS else {}

    def cold(self) -> Cold:
        """The columns that only reading and export need."""
        return Cold(self, self._data, self._cold)

    def sort_keys(self) -> list[bytes]:
        """All rows' sort keys."""
        data, prefix, start = self._data, self._data[_HOT.size : self._offsets_at], self._names_at
        if self._name_width:
            ends = decode_numbers(data, self._offsets_at, self._name_width, start, self.count + 1)
        else:
            ends = [start + i * self._name_length for i in range(self.count + 1)]
        if prefix:
            return [prefix + data[a:b] for a, b in pairwise(ends)]
        return [data[a:b] for a, b in pairwise(ends)]

    def inos(self) -> list[int]:
        """All rows' inode numbers."""
        if not self._ino_width:
            return list(range(self._ino_base, self._ino_base + self.count))
        return decode_numbers(self._data, self._inos_at, self._ino_width, self._ino_base, self.count)

    def sizes(self) -> list[int]:
        """Sizes of whole objects; links for directories."""
        return decode_numbers(self._data, self._sizes_at, self._size_width, self._size_base, self.count)

    def mtimes_ns(self) -> list[int]:
        """All rows' times in nanoseconds."""
        unit = self._time_unit
        if not self._time_width:
            return [self._time_base * unit] * self.count
        times = decode_numbers(self._data, self._times_at, self._time_width, self._time_base, self.count)
        return [time * unit for time in times] if unit > 1 else times

    def lengths(self) -> list[int]:
        """All rows' lengths as ``stat`` shows them for files."""
        return self.cold().lengths() if self.flags & HAS_EXTENTS else self.sizes()


class Cold:
    """The columns of a run that ``stat`` does not need: store, key, ETag, extent, label, display name."""

    __slots__ = (
        "_count", "_data", "_displays_at", "_etag_kind", "_etag_length", "_etags_at", "_extents_at",
        "_key_kind", "_key_prefix", "_keys_at", "_label_base", "_label_width", "_labels_at",
        "_lengths_at", "_run", "_store_base", "_store_width", "_stores_at",
    )  # fmt: skip

    _etags_at: int
    _etag_kind: int
    _etag_length: int
    _label_base: int
    _store_base: int

    def __init__(self, run: Run, data: bytes, start: int) -> None:
        self._run, self._data, self._count = run, data, run.count
        count = run.count
        (
            self._label_width, self._store_width, self._etag_kind, self._key_kind,
            self._label_base, self._store_base, prefix_length, self._etag_length,
        ) = _COLD.unpack_from(data, start)  # fmt: skip
        at: int = start + _COLD.size
        self._key_prefix = data[at : at + prefix_length]
        self._labels_at = at = at + prefix_length
        texts = self._label_width == LABEL_STRINGS
        self._stores_at = at = (
            columns.strings_end(data, at, count) if texts else at + count * self._label_width
        )
        self._extents_at = at = at + count * self._store_width
        self._lengths_at = at
        if run.flags & HAS_EXTENTS:
            self._lengths_at = at + _NUMBERS.size + data[at] * count
            at = self._lengths_at + _NUMBERS.size + data[self._lengths_at] * count
        self._etags_at = at
        self._keys_at = at = self._etags_end()
        self._displays_at = columns.strings_end(data, at, count) if self._key_kind == KEY_STRINGS else at

    def _etags_end(self) -> int:
        if self._etag_kind == ETAG_STRINGS:
            return columns.strings_end(self._data, self._etags_at, self._count)
        if self._etag_kind == ETAG_CONSTANT:
            return self._etags_at + self._etag_length
        return self._etags_at + self._count * (HEX_DIGITS // 2)

    def facts(self, row: int) -> FileFacts:
        """Everything of one file's row."""
        size = self._run._size_base
        if self._run._size_width:
            size += number_at(self._data, self._run._sizes_at, self._run._size_width, row)
        offset, length = 0, size
        if self._run.flags & HAS_EXTENTS:
            offset, length = self._number(self._extents_at, row), self._number(self._lengths_at, row)
        store = self._store_base
        if self._store_width:
            store += number_at(self._data, self._stores_at, self._store_width, row)
        return FileFacts(store, self.key(row), self.etag(row), offset, length, size, self.label(row))

    def _number(self, at: int, row: int) -> int:
        width, base = _NUMBERS.unpack_from(self._data, at)
        value: int = base
        return value + number_at(self._data, at + _NUMBERS.size, width, row) if width else value

    def _numbers(self, at: int) -> list[int]:
        width, base = _NUMBERS.unpack_from(self._data, at)
        return decode_numbers(self._data, at + _NUMBERS.size, width, base, self._count)

    def length(self, row: int) -> int:
        """One row's length where the run has extents."""
        return self._number(self._lengths_at, row)

    def key(self, row: int) -> str:
        """One row's object key."""
        if self._key_kind == KEY_FOLLOWS_NAME:
            return decode_text(self._key_prefix + self._run.sort_key(row))
        return decode_text(self._key_prefix + columns.string_at(self._data, self._keys_at, self._count, row))

    def etag(self, row: int) -> str:
        """One row's entity tag."""
        at, kind = self._etags_at, self._etag_kind
        if kind == ETAG_CONSTANT:
            return decode_text(self._data[at : at + self._etag_length])
        if kind == ETAG_STRINGS:
            return decode_text(columns.string_at(self._data, at, self._count, row))
        text = self._data[at + row * 16 : at + (row + 1) * 16].hex()
        return text if kind == ETAG_LOWER_HEX else text.upper()

    def label(self, row: int) -> int | str | None:
        """One row's label: a number of the table (0: none), or its text."""
        if self._label_width == LABEL_STRINGS:
            return _label_text(columns.string_at(self._data, self._labels_at, self._count, row))
        if not self._label_width:
            return self._label_base
        return self._label_base + number_at(self._data, self._labels_at, self._label_width, row)

    def display(self, row: int) -> bytes:
        """One row's display name, b"" where the component is the name."""
        if not self._run.flags & HAS_DISPLAYS:
            return b""
        return columns.string_at(self._data, self._displays_at, self._count, row)

    def displays(self) -> dict[int, bytes]:
        """The rows that have a display name."""
        if not self._run.flags & HAS_DISPLAYS:
            return {}
        texts = columns.decode_strings(self._data, self._displays_at, self._count)
        return {row: text for row, text in enumerate(texts) if text}

    def stores(self) -> list[int]:
        """All rows' store numbers."""
        return decode_numbers(self._data, self._stores_at, self._store_width, self._store_base, self._count)

    def labels(self) -> list[int | str | None]:
        """All rows' labels as in :meth:`label`."""
        if self._label_width == LABEL_STRINGS:
            texts = columns.decode_strings(self._data, self._labels_at, self._count)
            return [_label_text(text) for text in texts]
        return list(
            decode_numbers(self._data, self._labels_at, self._label_width, self._label_base, self._count)
        )

    def keys(self) -> list[str]:
        """All rows' object keys."""
        if self._key_kind == KEY_FOLLOWS_NAME:
            prefix = self._key_prefix
            return [decode_text(prefix + name) for name in self._run.sort_keys()]
        texts = columns.decode_strings(self._data, self._keys_at, self._count)
        return [decode_text(self._key_prefix + text) for text in texts]

    def etags(self) -> list[str]:
        """All rows' entity tags."""
        at, kind, count = self._etags_at, self._etag_kind, self._count
        if kind == ETAG_CONSTANT:
            return [self.etag(0)] * count
        if kind == ETAG_STRINGS:
            return [decode_text(text) for text in columns.decode_strings(self._data, at, count)]
        text = self._data[at : at + count * 16].hex()
        text = text if kind == ETAG_LOWER_HEX else text.upper()
        return [text[i : i + HEX_DIGITS] for i in range(0, len(text), HEX_DIGITS)]

    def offsets(self) -> list[int]:
        """All rows' offsets in their objects."""
        return self._numbers(self._extents_at) if self._run.flags & HAS_EXTENTS else [0] * self._count

    def lengths(self) -> list[int]:
        """All rows' lengths."""
        return self._numbers(self._lengths_at) if self._run.flags & HAS_EXTENTS else self._run.sizes()


def _label_text(data: bytes) -> str | None:
    return decode_text(data[1:]) if data else None
