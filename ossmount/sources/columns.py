"""Rows of manifests and tables as columns: the value that parsers give and sources consume.

What may live here: the column values and the rules of single cells (sizes, times, ETags), pure. Who may
touch it: whoever adds a known column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

KNOWN_COLUMNS = ("key", "size", "etag", "label", "mtime")

UNKNOWN_SIZE = -1
"""Stands for a size that a manifest does not tell and that has to be asked for."""

BATCH_ROWS = 16_384
"""Rows per batch: some megabytes, and enough that the cost per batch disappears."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Rows:
    """Some thousand rows of a table, as they are written, column by column.

    ``first`` is the number of the first row, from 0, without header and blank lines. ``keys`` are
    complete URIs or relative. Columns that the table does not have are None; ``sizes`` holds
    UNKNOWN_SIZE, ``etags`` "" and ``mtimes_ns`` 0 where a cell is empty.
    """

    first: int
    keys: Sequence[str]
    labels: Sequence[str | None] | None = None
    sizes: Sequence[int] | None = None
    etags: Sequence[str] | None = None
    mtimes_ns: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.keys)


def parse_count(text: str) -> int:
    """A size in bytes; "" is UNKNOWN_SIZE. Raises ValueError with the reason."""
    if not text:
        return UNKNOWN_SIZE
    try:
        size = int(text)
    except ValueError:
        raise ValueError(f"the size {text!r} is not a number of bytes") from None
    if not 0 <= size < 1 << 63:
        raise ValueError(f"the size {text!r} is {'negative' if size < 0 else 'too large'}")
    return size


def parse_mtime(text: str) -> int:
    """Nanoseconds since the epoch from seconds since the epoch or ISO 8601 (UTC if it does not say).

    "" is 0. Raises ValueError with the reason.
    """
    if not text:
        return 0
    if _NUMBER.fullmatch(text):
        return int(Decimal(text) * 1_000_000_000)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"the mtime {text!r} is neither seconds since 1970 nor ISO 8601") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def clean_etag(text: str) -> str:
    """The ETag without the quotes and blanks that exports leave around it."""
    return text.strip().strip('"')
