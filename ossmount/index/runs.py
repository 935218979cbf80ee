"""Runs, opened: some hundred consecutive children of one directory in one value, column by column.

What may live here: random access to the rows of a run; no LMDB, no tree. Who may touch it: whoever raises
``layout.FORMAT`` and writes the change into docs/index-format.md.

A row's *sort key* is its original component, with ``/`` behind it for a directory; rows stand in order of
their sort keys. The name in the tree is the component unless the row has a *display* name. A directory's
row keeps the number of its links in the column of sizes.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import NamedTuple

from ossmount.index import columns, layout
from ossmount.index.columns import decode_numbers, number_at
from ossmount.index.rows import decode_text
from ossmount.model import Attributes, Kind

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


class Run:
    """A run's value, opened: row access without decoding what is not asked for."""

    __slots__ = (
        "_cold", "_data", "_ino_base", "_ino_width", "_inos_at", "_name_length", "_name_width",
        "_names_at", "_offsets_at", "_prefix_length", "_size_base", "_size_width", "_sizes_at",
        "_time_base", "_time_unit", "_time_width", "_times_at", "count", "flags",
    )  # fmt: skip

    count: int
    flags: int
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
        ) = layout.HOT.unpack_from(data)  # fmt: skip
        count = self.count
        self._time_unit = layout.TIME_UNITS[unit]
        self._offsets_at = layout.HOT.size + self._prefix_length
        self._inos_at = self._offsets_at + ((count + 1) * self._name_width)
        self._sizes_at = self._inos_at + count * self._ino_width
        self._times_at = self._sizes_at + count * self._size_width
        self._names_at = self._times_at + count * self._time_width

    def row_of(self, sort_key: bytes) -> int:
        """The first row with exactly that sort key, -1 if there is none.

        Searches the text as a whole, which takes a fraction of a bisection in Python; only where the key
        also occurs inside another one is it looked for row by row.
        """
        data, start = self._data, self._names_at
        prefix = data[layout.HOT.size : self._offsets_at]
        if not sort_key.startswith(prefix):
            return -1
        target = sort_key[len(prefix) :]
        at = data.find(target, start, self._cold) - start
        if at < 0:
            return -1
        length: int = self._name_length
        width: int = self._name_width
        if not width:
            row, inside = divmod(at, length) if length else (0, 0)
            if not inside:
                return row if len(target) == length else -1
        else:
            offsets = columns.view(data, self._offsets_at, width, self.count + 1)
            row = bisect_left(offsets, at)
            if offsets[row] == at and row < self.count and offsets[row + 1] - at == len(target):
                return row
        row = self._find(target)
        return row if row < self.count and self.sort_key(row) == sort_key else -1

    def _find(self, target: bytes) -> int:
        """The first row whose sort key behind the prefix is not less than ``target``; ``count`` if none."""
        data, start = self._data, self._names_at
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

    def sort_key(self, row: int) -> bytes:
        """One row's sort key."""
        if self._name_width:
            first = number_at(self._data, self._offsets_at, self._name_width, row)
            behind = number_at(self._data, self._offsets_at, self._name_width, row + 1)
        else:
            first, behind = row * self._name_length, (row + 1) * self._name_length
        start = self._names_at
        return self._data[layout.HOT.size : self._offsets_at] + self._data[start + first : start + behind]

    def is_directory(self, row: int) -> bool:
        """What the row is."""
        flags = self.flags
        if not flags & layout.HAS_DIRECTORIES:
            return False
        return not flags & layout.HAS_FILES or self.sort_key(row).endswith(b"/")

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
        if self.flags & layout.HAS_DIRECTORIES and self.is_directory(row):
            return Attributes(self.ino(row), DIRECTORY, 0, time, size)
        if self.flags & layout.HAS_EXTENTS:
            size = Cold(self, self._data, self._cold).length(row)
        return Attributes(self.ino(row), FILE, size, time, 1)

    def display(self, row: int) -> bytes:
        """The row's display name, b"" where the component is the name."""
        return self.cold().display(row) if self.flags & layout.HAS_DISPLAYS else b""

    def displays(self) -> dict[int, bytes]:
        """The rows that have a display name."""
        return self.cold().displays() if self.flags & layout.HAS_DISPLAYS else {}

    def cold(self) -> Cold:
        """The columns that only reading and export need."""
        return Cold(self, self._data, self._cold)

    def sort_keys(self) -> list[bytes]:
        """All rows' sort keys."""
        data, prefix, start = self._data, self._data[layout.HOT.size : self._offsets_at], self._names_at
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
        return self.cold().lengths() if self.flags & layout.HAS_EXTENTS else self.sizes()


class Cold:
    """The columns of a run that ``stat`` does not need: store, key, ETag, extent, label, display name."""

    __slots__ = (
        "_count", "_data", "_displays_at", "_etag_kind", "_etag_length", "_etags_at", "_extents_at",
        "_key_kind", "_key_prefix", "_keys_at", "_label_base", "_label_width", "_labels_at",
        "_lengths_at", "_run", "_store_base", "_store_width", "_stores_at",
    )  # fmt: skip

    _count: int
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
        ) = layout.COLD.unpack_from(data, start)  # fmt: skip
        at: int = start + layout.COLD.size
        self._key_prefix = data[at : at + prefix_length]
        self._labels_at = at = at + prefix_length
        texts = self._label_width == layout.LABEL_STRINGS
        self._stores_at = at = (
            columns.strings_end(data, at, count) if texts else at + count * self._label_width
        )
        self._extents_at = at = at + count * self._store_width
        self._lengths_at = at
        if run.flags & layout.HAS_EXTENTS:
            self._lengths_at = at + layout.NUMBERS.size + data[at] * count
            at = self._lengths_at + layout.NUMBERS.size + data[self._lengths_at] * count
        self._etags_at = at
        self._keys_at = at = self._etags_end()
        self._displays_at = (
            columns.strings_end(data, at, count) if self._key_kind == layout.KEY_STRINGS else at
        )

    def _etags_end(self) -> int:
        if self._etag_kind == layout.ETAG_STRINGS:
            return columns.strings_end(self._data, self._etags_at, self._count)
        if self._etag_kind == layout.ETAG_CONSTANT:
            return self._etags_at + self._etag_length
        return self._etags_at + self._count * (layout.HEX_DIGITS // 2)

    def facts(self, row: int) -> FileFacts:
        """Everything of one file's row."""
        size = self._run._size_base
        if self._run._size_width:
            size += number_at(self._data, self._run._sizes_at, self._run._size_width, row)
        offset, length = 0, size
        if self._run.flags & layout.HAS_EXTENTS:
            offset, length = self._number(self._extents_at, row), self._number(self._lengths_at, row)
        store = self._store_base
        if self._store_width:
            store += number_at(self._data, self._stores_at, self._store_width, row)
        return FileFacts(store, self.key(row), self.etag(row), offset, length, size, self.label(row))

    def _number(self, at: int, row: int) -> int:
        width, base = layout.NUMBERS.unpack_from(self._data, at)
        value: int = base
        return value + number_at(self._data, at + layout.NUMBERS.size, width, row) if width else value

    def _numbers(self, at: int) -> list[int]:
        width, base = layout.NUMBERS.unpack_from(self._data, at)
        return decode_numbers(self._data, at + layout.NUMBERS.size, width, base, self._count)

    def length(self, row: int) -> int:
        """One row's length where the run has extents."""
        return self._number(self._lengths_at, row)

    def key(self, row: int) -> str:
        """One row's object key."""
        if self._key_kind == layout.KEY_FOLLOWS_NAME:
            return decode_text(self._key_prefix + self._run.sort_key(row))
        return decode_text(self._key_prefix + columns.string_at(self._data, self._keys_at, self._count, row))

    def etag(self, row: int) -> str:
        """One row's entity tag."""
        at, kind = self._etags_at, self._etag_kind
        if kind == layout.ETAG_CONSTANT:
            return decode_text(self._data[at : at + self._etag_length])
        if kind == layout.ETAG_STRINGS:
            return decode_text(columns.string_at(self._data, at, self._count, row))
        text = self._data[at + row * 16 : at + (row + 1) * 16].hex()
        return text if kind == layout.ETAG_LOWER_HEX else text.upper()

    def label(self, row: int) -> int | str | None:
        """One row's label: a number of the table (0: none), or its text."""
        if self._label_width == layout.LABEL_STRINGS:
            return _label_text(columns.string_at(self._data, self._labels_at, self._count, row))
        if not self._label_width:
            return self._label_base
        return self._label_base + number_at(self._data, self._labels_at, self._label_width, row)

    def display(self, row: int) -> bytes:
        """One row's display name, b"" where the component is the name."""
        if not self._run.flags & layout.HAS_DISPLAYS:
            return b""
        return columns.string_at(self._data, self._displays_at, self._count, row)

    def displays(self) -> dict[int, bytes]:
        """The rows that have a display name."""
        if not self._run.flags & layout.HAS_DISPLAYS:
            return {}
        texts = columns.decode_strings(self._data, self._displays_at, self._count)
        return {row: text for row, text in enumerate(texts) if text}

    def stores(self) -> list[int]:
        """All rows' store numbers."""
        return decode_numbers(self._data, self._stores_at, self._store_width, self._store_base, self._count)

    def labels(self) -> list[int | str | None]:
        """All rows' labels as in :meth:`label`."""
        if self._label_width == layout.LABEL_STRINGS:
            texts = columns.decode_strings(self._data, self._labels_at, self._count)
            return [_label_text(text) for text in texts]
        return list(
            decode_numbers(self._data, self._labels_at, self._label_width, self._label_base, self._count)
        )

    def keys(self) -> list[str]:
        """All rows' object keys."""
        if self._key_kind == layout.KEY_FOLLOWS_NAME:
            prefix = self._key_prefix
            return [decode_text(prefix + name) for name in self._run.sort_keys()]
        texts = columns.decode_strings(self._data, self._keys_at, self._count)
        return [decode_text(self._key_prefix + text) for text in texts]

    def etags(self) -> list[str]:
        """All rows' entity tags."""
        at, kind, count = self._etags_at, self._etag_kind, self._count
        if kind == layout.ETAG_CONSTANT:
            return [self.etag(0)] * count
        if kind == layout.ETAG_STRINGS:
            return [decode_text(text) for text in columns.decode_strings(self._data, at, count)]
        text = self._data[at : at + count * 16].hex()
        text = text if kind == layout.ETAG_LOWER_HEX else text.upper()
        return [text[i : i + layout.HEX_DIGITS] for i in range(0, len(text), layout.HEX_DIGITS)]

    def offsets(self) -> list[int]:
        """All rows' offsets in their objects."""
        return self._numbers(self._extents_at) if self._run.flags & layout.HAS_EXTENTS else [0] * self._count

    def lengths(self) -> list[int]:
        """All rows' lengths."""
        return self._numbers(self._lengths_at) if self._run.flags & layout.HAS_EXTENTS else self._run.sizes()


def _label_text(data: bytes) -> str | None:
    return decode_text(data[1:]) if data else None
