"""Rows of manifests and tables as columns: the value that parsers give and sources consume.

What may live here: the column values and the rules of single cells (sizes, times, ETags), pure. Who may
touch it: whoever adds a known column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from ossmount.errors import ManifestError, SettingsError

KNOWN_COLUMNS = ("key", "size", "etag", "label", "mtime")

KEY_NAMES = ("key", "file_name")
"""Names under which the path stands: ours, and that of Hugging Face's ``metadata`` files."""

UNKNOWN_SIZE = -1
"""Stands for a size that a manifest does not tell and that has to be asked for."""

BATCH_ROWS = 16_384
"""Rows per batch: some megabytes, and enough that the cost per batch disappears."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WHOLE = re.compile(r"-?[0-9]{1,30}")
_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")

EARLIEST_SECOND, LATEST_SECOND = -62_135_596_800, 253_402_300_799
"""Since 1970, of the years 1 to 9999: what ISO 8601 can write and the index holds."""


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


def parse_columns(text: str) -> dict[str, str]:
    """The mapping of ``--columns key=path,label=category``: known column → the table's own.

    Raises SettingsError.
    """
    mapping: dict[str, str] = {}
    for part in text.split(","):
        known, _, own = (word.strip() for word in part.partition("="))
        if known not in KNOWN_COLUMNS or not own or known in mapping:
            raise SettingsError(
                f"--columns: {part!r} is not one of {', '.join(KNOWN_COLUMNS)}, '=', and a column",
                "write it like key=path,label=category",
            )
        mapping[known] = own
    return mapping


def choose_columns(names: Sequence[str], mapping: Mapping[str, str], place: str) -> tuple[str, ...]:
    """For each of a table's columns the known one that it is, or "" for one that is not read.

    Known columns that ``mapping`` does not name have their own names. Without a mapping, and in tables
    that say ``key``, a column of another name is an error: a misspelt one must not pass in silence.
    Raises ManifestError.
    """
    wanted = {known: known for known in KNOWN_COLUMNS} | dict(mapping)
    if "key" not in mapping and "key" not in names:
        wanted["key"] = "file_name"
    for known, own in wanted.items():
        count = names.count(own)
        if count > 1:
            raise ManifestError(place, 1, f"the column {own!r} is there twice", "remove or rename one")
        if not count and (known == "key" or known in mapping):
            raise ManifestError(
                place,
                1,
                f"no column {own!r}; there are {', '.join(names[:20])}",
                "say with --columns which to read",
            )
    strict = not mapping and wanted["key"] == "key"
    unknown = [name for name in names if name not in KNOWN_COLUMNS]
    if strict and unknown:
        known = ", ".join(KNOWN_COLUMNS)
        raise ManifestError(
            place, 1, f"unknown column {unknown[0]!r}", f"known ones are {known}; --columns maps others"
        )
    # What the mapping says of a column counts more than the column's name.
    by_own = {own: known for known, own in (*wanted.items(), *mapping.items())}
    for known in ("key", *mapping):
        if by_own[own := wanted[known]] != known:
            raise ManifestError(
                place, 1, f"the column {own!r} would be {known} and {by_own[own]}", "change --columns"
            )
    return tuple(by_own.get(name, "") for name in names)


def parse_count(text: str) -> int:
    """A size in bytes; "" is UNKNOWN_SIZE. Raises ValueError with the reason."""
    text = text.strip(" ")
    if not text:
        return UNKNOWN_SIZE
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(f"the size {_short(text)} is not a number of bytes")
    size = int(text)
    if not 0 <= size < 1 << 63:
        raise ValueError(f"the size {text!r} is {'negative' if size < 0 else 'too large'}")
    return size


def parse_mtime(text: str) -> int:
    """Nanoseconds since the epoch from seconds since the epoch or ISO 8601 (UTC if it does not say).

    "" is 0. Raises ValueError with the reason.
    """
    text = text.strip(" ")
    if not text:
        return 0
    if _NUMBER.fullmatch(text):
        seconds = Decimal(text)
        if not EARLIEST_SECOND <= seconds <= LATEST_SECOND:
            raise ValueError(f"the mtime {text!r} is not within the years 1 to 9999")
        return int(seconds * 1_000_000_000)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"the mtime {_short(text)} is neither seconds since 1970 nor ISO 8601") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _short(text: str) -> str:
    """A cell for a message of one line."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def clean_etag(text: str) -> str:
    """The ETag as stores give it, without the quotes and blanks that exports leave around it.

    A weak one may be written as servers do, ``W/"abc"``. Raises ValueError with the reason.
    """
    etag = text.strip().strip('"')
    if etag.startswith('W/"'):
        etag = "W/" + etag[3:]
    if _CONTROL.search(etag):  # it will be sent in a header, whose end a line break is
        raise ValueError(f"the ETag {etag!r} contains a control character")
    return etag
