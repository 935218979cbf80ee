"""Columns of numbers and strings, packed so that one row is read without its neighbours.

What may live here: pure encoding of one column. Who may touch it: whoever raises the format version
(:mod:`ossmount.index.layout`) and writes the change into docs/index-format.md.

Numbers are stored as ``base + value``, the values in 0, 1, 2, 4 or 8 bytes each, little-endian; width 0
is a constant and costs nothing. Strings are stored as n + 1 offsets and one piece of text.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Literal

_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_AT = {width: struct.Struct("<" + code).unpack_from for width, code in _CODES.items()}
_PAIR = {width: struct.Struct("<" + code * 2).unpack_from for width, code in _CODES.items()}


def width_for(largest: int) -> int:
    """Bytes that hold 0 … ``largest``."""
    if largest <= 0xFFFF:
        return 0 if largest == 0 else 1 if largest <= 0xFF else 2
    return 4 if largest <= 0xFFFFFFFF else 8


def pack(values: Sequence[int], width: int) -> bytes:
    """``values`` in ``width`` bytes each (nothing for width 0)."""
    return struct.pack(f"<{len(values)}{_CODES[width]}", *values) if width else b""


def encode_numbers(values: Sequence[int]) -> tuple[int, int, bytes]:
    """Width, base and packed values of a column of at least one number."""
    low, high = min(values), max(values)
    width = width_for(high - low)
    if low >= 0 and width and width_for(high) == width:
        return width, 0, pack(values, width)  # a base would save nothing and cost a subtraction a row
    return width, low, pack([value - low for value in values], width) if width else b""


def number_at(data: bytes, start: int, width: int, row: int) -> int:
    """The value of one row, without the base. ``width`` must not be 0."""
    value: int = _AT[width](data, start + row * width)[0]
    return value


def view(data: bytes, start: int, width: int, count: int) -> memoryview[int]:
    """The values of a column without the base, in place. ``width`` must not be 0."""
    return memoryview(data)[start : start + count * width].cast(_CODES[width])


def decode_numbers(data: bytes, start: int, width: int, base: int, count: int) -> list[int]:
    """All values of a column."""
    if not width:
        return [base] * count
    values = view(data, start, width, count).tolist()
    return [base + value for value in values] if base else values


def encode_strings(texts: Sequence[bytes]) -> bytes:
    """A column of strings: one byte of width, n + 1 offsets, the text."""
    offsets = list(accumulate(map(len, texts), initial=0))
    width = width_for(offsets[-1]) or 1
    return b"".join(chain((bytes((width,)), pack(offsets, width)), texts))


def string_at(data: bytes, start: int, count: int, row: int) -> bytes:
    """One row of a column of ``count`` strings that begins at ``start``."""
    width = data[start]
    first, behind = _PAIR[width](data, start + 1 + row * width)
    text = start + 1 + (count + 1) * width
    return data[text + first : text + behind]


def strings_end(data: bytes, start: int, count: int) -> int:
    """The position behind a column of strings."""
    width = data[start]
    text = start + 1 + (count + 1) * width
    return text + number_at(data, start + 1, width, count)


def decode_strings(data: bytes, start: int, count: int) -> list[bytes]:
    """All rows of a column of strings."""
    width = data[start]
    text = start + 1 + (count + 1) * width
    offsets = decode_numbers(data, start + 1, width, text, count + 1)
    return [data[a:b] for a, b in pairwise(offsets)]
