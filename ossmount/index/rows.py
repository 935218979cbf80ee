"""Rows of a run in memory, and their encoding.

What may live here: from columns to a run's value. Who may touch it: whoever raises ``layout.FORMAT`` and
writes the change into docs/index-format.md; :mod:`runs` reads what is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from ossmount.index import columns, layout
from ossmount.index.columns import encode_numbers, encode_strings

_TIME_END = 1 << 63


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
        if flags & layout.HAS_DIRECTORIES:
            self._fill_directories(flags)
        name_width, name_length, name_column = _encode_offsets(suffixes, len(text))
        ino_width, ino_base, ino_column = _encode_inos(self.inos)
        size_width, size_base, size_column = encode_numbers(self.sizes)
        unit, times = _scale_times(self.mtimes_ns)
        time_width, time_base, time_column = encode_numbers(times)
        hot = b"".join((prefix, name_column, ino_column, size_column, time_column, text))
        header = layout.HOT.pack(
            count, flags, name_width, ino_width, size_width, time_width, unit,
            len(prefix), name_length, layout.HOT.size + len(hot), ino_base, size_base, time_base,
        )  # fmt: skip
        return b"".join((header, hot, self._encode_cold(flags)))

    def _flags(self, text: bytes) -> int:
        directories = 1 if b"/" in text else sum(key.endswith(b"/") for key in self.sort_keys[:1])
        flags = layout.HAS_DIRECTORIES if directories else 0
        if not directories or not all(key.endswith(b"/") for key in self.sort_keys):
            flags |= layout.HAS_FILES
        return (
            flags
            | (layout.HAS_DISPLAYS if self.displays else 0)
            | (layout.HAS_EXTENTS if self.offsets else 0)
        )

    def _fill_directories(self, flags: int) -> None:
        """Gives the rows of directories values that cost nothing in columns that mean nothing there."""
        model = next((i for i, key in enumerate(self.sort_keys) if not key.endswith(b"/")), 0)
        prefix = _key_prefix(self.keys[model], self.sort_keys[model]) if flags & layout.HAS_FILES else ""
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
            label_width, label_base, label_column = layout.LABEL_STRINGS, 0, encode_strings(texts)
        header = layout.COLD.pack(
            label_width, store_width, etag_kind, key_kind,
            label_base, store_base, len(key_prefix), etag_length,
        )  # fmt: skip
        extents = self._encode_extents() if flags & layout.HAS_EXTENTS else b""
        count = len(self.sort_keys)
        displays = [self.displays.get(i, b"") for i in range(count)] if flags & layout.HAS_DISPLAYS else None
        return b"".join(
            (header, key_prefix, label_column, store_column, extents, etag_column, key_column,
             encode_strings(displays) if displays else b"")
        )  # fmt: skip

    def _encode_extents(self) -> bytes:
        parts = []
        for values in (self.offsets or (), self.lengths or ()):
            width, base, column = encode_numbers(values)
            parts += [layout.NUMBERS.pack(width, base), column]
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
    """The coarsest unit that keeps ``times`` exactly, or all but exactly; and the times in it.

    64 bits hold nanoseconds of the years 1678 to 2262 only: beyond those milliseconds have to do.
    """
    last = len(layout.TIME_UNITS) - 1
    if not -_TIME_END <= min(times) <= max(times) < _TIME_END:
        last -= 1
    for unit, nanoseconds in enumerate(layout.TIME_UNITS[:last]):
        if not any(time % nanoseconds for time in times):
            return unit, [time // nanoseconds for time in times]
    return last, [time // layout.TIME_UNITS[last] for time in times]


def _encode_etags(etags: list[str]) -> tuple[int, int, bytes]:
    """Kind, length of a constant, column."""
    if etags.count(etags[0]) == len(etags):
        constant = encode_text(etags[0])
        return layout.ETAG_CONSTANT, len(constant), constant
    joined = "".join(etags)
    if len(joined) == layout.HEX_DIGITS * len(etags) and set(map(len, etags)) == {layout.HEX_DIGITS}:
        raw = _from_hex(joined)
        if raw is not None and raw.hex() == joined:
            return layout.ETAG_LOWER_HEX, 0, raw
        if raw is not None and raw.hex().upper() == joined:
            return layout.ETAG_UPPER_HEX, 0, raw
    return layout.ETAG_STRINGS, 0, encode_strings([encode_text(etag) for etag in etags])


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
            return layout.KEY_FOLLOWS_NAME, prefix, b""
    texts = [encode_text(key) for key in keys]
    prefix = common_prefix(min(texts), max(texts))[:0xFFFF]
    return layout.KEY_STRINGS, prefix, encode_strings([text[len(prefix) :] for text in texts])
