"""The text forms of a manifest, read row by row: the reference, and what finds the line of an error.

What may live here: the rules of the formats. Who may touch it: whoever changes a rule, with the docs and
the fast reader (:mod:`ossmount.sources.arrow_csv`) beside it.

**Which form.** If ``key`` is among the first line's cells (separated by tabs, or else by commas), or
``file_name``, or a column mapping is given, the file is a *table*; otherwise it is a *plain manifest*.

**Plain manifest**: one object a line, optionally a label after it. No comments; blank lines are skipped.
Whether the label stands after a tab or after a space is one decision for the whole file:

- A file that contains a tab anywhere is tab-separated: a line is split at its *last* tab, a line
  without one has no label, and spaces and quotes are ordinary characters of paths and labels.
- A file without any tab is space-separated: a line is split at its last run of spaces, blanks around it
  are ignored. A path with spaces is written in double quotes (a quote in it doubled).

**Table**: RFC 4180 with tabs or commas: cells may be quoted, a quoted cell may contain anything. An
empty cell means "not known" (size, etag, mtime) or "no label".
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from ossmount.errors import ManifestError
from ossmount.sources.columns import (
    KEY_NAMES,
    UNKNOWN_SIZE,
    choose_columns,
    clean_etag,
    parse_count,
    parse_mtime,
)
from ossmount.sources.labels import label_fault, text_fault

BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20
LONGEST_LINE = 64 << 20
"""Bytes of a line: it is held in memory, several times over, and a megabyte of gzip may say gigabytes."""
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?: +(.*))?', re.DOTALL)


class Row(NamedTuple):
    """One row, as in :class:`ossmount.sources.columns.Rows`."""

    key: str
    label: str | None = None
    size: int = UNKNOWN_SIZE
    etag: str = ""
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain manifest; ``tabbed`` says what separates the label."""

    tabbed: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table with these columns, in this order; "" is a column that is not read."""

    columns: tuple[str, ...]
    delimiter: str
    header: bool = True


Form = Plain | Table


def detect_form(stream: BinaryIO, place: str, mapping: Mapping[str, str] | None = None) -> Form:
    """The form of the whole text, read from its beginning. Raises ManifestError for a bad header.

    With a ``mapping`` (known column → the table's own name) the first line is a header in any case.
    """
    first = stream.readline(_CHUNK)
    header = _header(first.removeprefix(BOM), place, mapping or {})
    if header is not None:
        return header
    rest = iter(lambda: stream.read(_CHUNK), b"")
    return Plain(tabbed=b"\t" in first or any(b"\t" in chunk for chunk in rest))


def _header(line: bytes, place: str, mapping: Mapping[str, str]) -> Table | None:
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    delimiter = "\t" if "\t" in text else ","
    try:
        cells = [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter), [])]
    except csv.Error as error:
        reason = "a carriage return alone ends no line" if "\r" in text else str(error)
        raise ManifestError(place, 1, reason, "end lines with a newline") from error
    if not mapping and not any(name in cells for name in KEY_NAMES):
        return None
    return Table(choose_columns(cells, mapping, place), delimiter)


def split_line(line: str, *, tabbed: bool) -> tuple[str, str | None]:
    """Path and label of one line of a plain manifest. Raises ValueError with the reason."""
    if tabbed:
        path, tab, label = line.rpartition("\t")
        return (path, label) if tab else (line, None)
    line = line.strip(" ")
    if line.startswith('"'):
        return _split_quoted(line)
    path, space, label = line.rpartition(" ")
    return (path.rstrip(" "), label) if space else (line, None)


def _split_quoted(line: str) -> tuple[str, str | None]:
    match = _QUOTED.fullmatch(line)
    if match is None:
        raise ValueError("a path in double quotes does not end, or text follows it without a space")
    label = match[2]
    if label is not None and " " in label:
        raise ValueError(f"the label {label!r} contains a space; separate with a tab to allow that")
    return match[1].replace('""', '"'), label


def format_line(path: str, label: str | None, *, tabbed: bool) -> str:
    """The line that :func:`split_line` reads back. Raises ValueError for what the form cannot hold."""
    if tabbed:
        line = path if label is None else f"{path}\t{label}"
    else:
        quoted = '"' + path.replace('"', '""') + '"' if " " in path or path.startswith('"') else path
        line = quoted if label is None else f"{quoted} {label}"
    holds = (
        not any(sign in line for sign in "\0\n") and not line.endswith("\r") and (tabbed or "\t" not in line)
    )
    if not holds or split_line(line, tabbed=tabbed) != (path, label):
        raise ValueError(f"{path!r} with the label {label!r} cannot stand in such a manifest; write a table")
    return line


def read_rows(stream: BinaryIO, form: Form, place: str) -> Iterator[tuple[int, Row]]:
    """All rows with the line (from 1) they begin on. Raises ManifestError."""
    if isinstance(form, Plain):
        return _plain_rows(stream, form, place)
    return _table_rows(stream, form, place)


def _lines(stream: BinaryIO, place: str) -> Iterator[str]:
    """Decoded lines with their ends. Raises ManifestError."""
    for number, raw in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), b""), 1):
        if len(raw) > LONGEST_LINE:
            reason = f"the line has more than {LONGEST_LINE >> 20} MiB"
            raise ManifestError(place, number, reason, "is this a list of objects?")
        line = raw.removeprefix(BOM) if number == 1 else raw
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ManifestError(
                place, number, f"byte {error.start + 1} of the line is not UTF-8", "convert the file to UTF-8"
            ) from error
        if "\0" in text:
            raise ManifestError(place, number, "the line contains a NUL", "is this a text file?")
        yield text


def read_lines(stream: BinaryIO, place: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, without their ends, and their numbers from 1. Raises ManifestError."""
    for number, text in enumerate(_lines(stream, place), 1):
        line = text.removesuffix("\n").removesuffix("\r")
        if line.strip(" "):
            yield number, line


def _plain_rows(stream: BinaryIO, form: Plain, place: str) -> Iterator[tuple[int, Row]]:
    good: set[str | None] = {None}
    for number, line in read_lines(stream, place):
        try:
            path, label = split_line(line, tabbed=form.tabbed)
            _check_key(path)
            if label not in good:
                _check_label(label)
                good.add(label)
        except ValueError as error:
            raise ManifestError(place, number, str(error), "write path, tab, label") from error
        yield number, Row(path, label)


def _table_rows(stream: BinaryIO, form: Table, place: str) -> Iterator[tuple[int, Row]]:
    lines = _lines(stream, place)
    if form.header:
        next(lines, None)
    reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
    while True:
        begin = reader.line_num + 1 + form.header
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if cells:
                yield begin, _table_row(cells, form.columns)
        except (csv.Error, ValueError) as error:
            raise ManifestError(place, begin, str(error), "correct the row") from error


def _table_row(cells: list[str], columns: Sequence[str]) -> Row:
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells where the header has {len(columns)}")
    return row_of(dict(zip(columns, cells, strict=True)))


def row_of(cells: Mapping[str, str]) -> Row:
    """The row of cells by known column. Raises ValueError with the reason."""
    key, label = cells["key"], cells.get("label") or None
    fault = text_fault("".join(cells.values()))
    if fault is not None:
        raise ValueError(fault)
    _check_key(key)
    if label is not None:
        _check_label(label)
    return Row(
        key,
        label,
        parse_count(cells.get("size", "")),
        clean_etag(cells.get("etag", "")),
        parse_mtime(cells.get("mtime", "")),
    )


def _check_key(key: str) -> None:
    if not key or "\0" in key:
        raise ValueError("the path contains a NUL" if key else "the path is empty")


def _check_label(label: str | None) -> None:
    fault = label_fault(label or "")
    if fault is not None:
        raise ValueError(fault)
