"""Answers on standard output: tables for people, JSON for programs.

What may live here: how answers look, and files that take them; nothing is computed. Who may touch it:
whoever changes that look. JSON is a contract: fields may be added, none is renamed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import IO, Any, TextIO

from ossmount import places
from ossmount.errors import SettingsError


@contextlib.contextmanager
def replacing(name: str) -> Iterator[IO[bytes]]:
    """What takes the place of the file ``name``, see :func:`places.replacing`. Raises SettingsError."""
    try:
        with places.replacing(Path(name)) as output:
            yield output
    except OSError as error:
        raise SettingsError(f"{name}: {error.strerror}", "name a file that can be written") from error


def as_fields(row: Any) -> dict[str, Any]:
    """A row as a dict, from a mapping, a dataclass or a named tuple."""
    if isinstance(row, Mapping):
        return dict(row)
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return dataclasses.asdict(row)
    return dict(row._asdict())


def json_value(value: Any) -> Any:
    """What JSON has no notion of: bytes as text (undecodable ones as \\udcXX), and paths."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_json(out: TextIO, value: Any) -> None:
    """One JSON document. ASCII only, so that every name survives every terminal and pipe."""
    out.write(json.dumps(value, default=json_value, indent=2) + "\n")


def print_json_rows(out: TextIO, rows: Iterable[dict[str, Any]]) -> None:
    """A JSON array written row by row: a directory may have millions of names."""
    out.write("[")
    separator = "\n"
    for row in rows:
        out.write(separator + json.dumps(row, default=json_value))
        separator = ",\n"
    out.write("\n]\n")


def print_fields(out: TextIO, fields: Iterable[tuple[str, str]]) -> None:
    """``name   value`` lines, aligned."""
    pairs = list(fields)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        out.write(f"{name:<{width}}  {value}\n".rstrip() + "\n")


def print_table(out: TextIO, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns under heads, aligned."""
    body = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [list(heads), *body]) for i in range(len(heads))]
    for row in [list(heads), *body]:
        out.write(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
        )


def printable(text: str | bytes) -> str:
    """A name on one line: control characters and undecodable bytes as escapes."""
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode() for c in decoded
    )


def cell(value: Any) -> str:
    """One value of a row that the table knows nothing of."""
    if isinstance(value, Enum):
        return value.name.lower()
    return printable(value) if isinstance(value, str | bytes) else str(value)


def size_text(count: int) -> str:
    """Bytes for a reader: ``110.0 KiB``."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} PiB"


def time_text(seconds: float) -> str:
    """Seconds since the epoch as UTC, ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
