"""Readers of the forms a manifest may have: each gives rows, and finds the line of a row again.

What may live here: the choice of the reader, and readers of text. Who may touch it: whoever adds a form.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Protocol

from ossmount.errors import ManifestError, OssmountError, SettingsError
from ossmount.json_text import read_json
from ossmount.sources.arrow_csv import is_well_quoted, read_table
from ossmount.sources.columns import BATCH_ROWS, KEY_NAMES, Rows
from ossmount.sources.parquet import MAGIC, ParquetReader
from ossmount.sources.parsing import Form, Plain, Row, detect_form, read_lines, read_rows, row_of
from ossmount.sources.text_file import TextFile

Hook = Callable[[BinaryIO], Iterable[tuple[str, Any]]]
"""Yields complete URIs or relative paths, each with a label (or None), from the opened manifest."""


class Reader(Protocol):
    """A form of manifest."""

    def rows(self, file: TextFile) -> Iterator[Rows]:
        """All rows from the beginning. Raises ManifestError and SourceError."""
        ...

    def line_of(self, file: TextFile, number: int) -> int:
        """The line (or, in binary forms, the row) from 1 of the row with that number from 0."""
        ...


def open_reader(file: TextFile, mapping: Mapping[str, str], hook: Hook | None = None) -> Reader:
    """The reader for what ``file`` contains. Raises ManifestError and SourceError."""
    if hook is not None:
        return HookReader(hook)
    with file.open() as stream:
        head = stream.readline(1 << 20)
    if head.startswith(MAGIC):
        return ParquetReader(mapping)
    if _is_json_object(head):
        return JsonLinesReader(mapping)
    with file.open() as stream:
        return TextReader(detect_form(stream, file.place, mapping))


def load_hook(name: str) -> Hook:
    """The function that ``module:function`` names. Raises SettingsError."""
    module, colon, function = name.partition(":")
    remedy = "write module:function, with the module on PYTHONPATH"
    if not colon or not module or not function:
        raise SettingsError(f"--manifest-parser {name!r} is not a function's name", remedy)
    try:
        hook: Hook = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"--manifest-parser {name!r} cannot be loaded: {error}", remedy) from error
    return hook


def _is_json_object(line: bytes) -> bool:
    if not line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{"):
        return False
    try:
        return isinstance(read_json(line.decode("utf-8-sig")), dict)
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class TextReader:
    """Plain manifests and tables in TSV and CSV."""

    form: Form

    def rows(self, file: TextFile) -> Iterator[Rows]:
        """Tables by the fast reader; where it stumbles, the row parser says where and what."""
        with file.open() as stream:
            if isinstance(self.form, Plain) or not is_well_quoted(stream, self.form.delimiter):
                stream.seek(0)
                yield from _in_batches(row for _, row in read_rows(stream, self.form, file.place))
                return
            try:
                yield from read_table(stream, self.form)
            except (ValueError, OSError) as error:
                raise self._fault(file, error) from error

    def line_of(self, file: TextFile, number: int) -> int:
        """By reading again: only errors ask."""
        with file.open() as stream:
            rows = read_rows(stream, self.form, file.place)
            return next(islice((line for line, _ in rows), number, None), 1)

    def _fault(self, file: TextFile, error: Exception) -> ManifestError:
        line = 1
        try:
            with file.open() as stream:
                for line, _ in read_rows(stream, self.form, file.place):  # noqa: B007 - the last one counts
                    pass
        except ManifestError as precise:
            return precise
        return ManifestError(file.place, line, f"at or before this line: {error}", "correct the table")


@dataclass(frozen=True, slots=True)
class JsonLinesReader:
    """One JSON object a line, such as Hugging Face's ``metadata.jsonl``. Other members are not read."""

    mapping: Mapping[str, str]

    def rows(self, file: TextFile) -> Iterator[Rows]:
        """Raises ManifestError with the line."""
        return _in_batches(row for _, row in self._numbered(file))

    def line_of(self, file: TextFile, number: int) -> int:
        """By reading again."""
        return next(islice((line for line, _ in self._numbered(file)), number, None), 1)

    def _numbered(self, file: TextFile) -> Iterator[tuple[int, Row]]:
        with file.open() as stream:
            for number, line in read_lines(stream, file.place):
                try:
                    yield number, self._row(read_json(line))
                except ValueError as error:
                    raise ManifestError(file.place, number, str(error), "correct the row") from error

    def _row(self, value: object) -> Row:
        if not isinstance(value, dict):
            raise ValueError("the line is no JSON object")  # noqa: TRY004 - a fault of data, not of types
        key = self.mapping.get("key") or next((name for name in KEY_NAMES if name in value), "")
        if key not in value:
            raise ValueError(f"no member {key or 'key'!r}")
        cells = {"key": _cell(value[key])}
        for known in ("label", "size", "etag", "mtime"):
            cells[known] = _cell(value.get(self.mapping.get(known, known)))
        return row_of(cells)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{json.dumps(value)[:40]} is neither text nor a number")


@dataclass(frozen=True, slots=True)
class HookReader:
    """A user's function, in the form that the vendor's connector calls ``manifest_parser``."""

    hook: Hook

    def rows(self, file: TextFile) -> Iterator[Rows]:
        """Raises ManifestError with the row for whatever the function raises or yields wrongly."""
        with file.open() as stream:
            yield from _in_batches(self._rows(stream, file.place))

    def line_of(self, file: TextFile, number: int) -> int:
        """Rows, since only the function knows about lines."""
        del file
        return number + 1

    def _rows(self, stream: BinaryIO, place: str) -> Iterator[Row]:
        number = 1
        try:
            for key, label in self.hook(stream):
                yield row_of({"key": str(key), "label": "" if label is None else str(label)})
                number += 1
        except OssmountError:
            raise
        except Exception as error:
            reason = f"the manifest parser failed: {type(error).__name__}: {error}"
            raise ManifestError(place, number, reason, "correct the function, or what it reads") from error


def _in_batches(rows: Iterable[Row]) -> Iterator[Rows]:
    rows, first = iter(rows), 0
    while chunk := list(islice(rows, BATCH_ROWS)):
        keys, labels, sizes, etags, mtimes_ns = zip(*chunk, strict=True)
        yield Rows(first, keys, labels, sizes, etags, mtimes_ns)
        first += len(chunk)
