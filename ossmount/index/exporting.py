"""Out of an index again: all entries as batches, and the rows of the report.

What may live here: streaming everything in index order. Who may touch it: whoever measures the rate; a
view of ten million entries is an export that feeds a build.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from ossmount.index.layout import HAS_DIRECTORIES
from ossmount.index.reading import LmdbIndex
from ossmount.index.rows import encode_text
from ossmount.index.runs import Run
from ossmount.model import ROOT_INODE, EntryBatch

_BATCH_ROWS = 8192
"""Rows of a batch at least, where there are so many: small directories are put together."""

_COLUMNS = 9


_Piece = list[list[Any]]
"""Columns of EntryBatch."""


class _Below(NamedTuple):
    """A directory that comes next, and the wished path of it with a trailing slash."""

    ino: int
    prefix: bytes


class ReportRow(NamedTuple):
    """Something that the build did to a key. ``what`` is rename, merge or skip.

    ``key`` is the URI of the object (a directory's: its path), ``name`` the path in the tree, for rows
    that are gone the path that was wished.
    """

    what: str
    key: str
    name: bytes
    reason: str


def report(index: LmdbIndex) -> Iterator[ReportRow]:
    """Every rename, merge and skip of the build, in its order."""
    for packed in index.report_rows():
        what, key, name, reason = json.loads(packed)
        yield ReportRow(what, key, encode_text(name), reason)


def export(index: LmdbIndex, *, directories: bool = False) -> Iterator[EntryBatch]:
    """All files in index order with the paths that their sources wished, so that a build repeats the tree.

    ``directories`` adds a marker (path with a trailing ``/``, no object) for each directory, so that empty
    ones and their times are kept too.
    """
    columns: list[list[Any]] = [[] for _ in range(_COLUMNS)]
    for piece in _walk(index, directories):
        for column, values in zip(columns, piece, strict=True):
            column += values
        if len(columns[0]) >= _BATCH_ROWS:
            yield EntryBatch(*columns)
            columns = [[] for _ in range(_COLUMNS)]
    if columns[0]:
        yield EntryBatch(*columns)


def _walk(index: LmdbIndex, directories: bool) -> Iterator[_Piece]:
    """Columns of EntryBatch, piece by piece, depth first."""
    stack: list[Iterator[_Piece | _Below]] = [iter([_Below(ROOT_INODE, b"")])]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        elif isinstance(found, _Below):
            stack.append(_pieces(index, *found))
            if directories:
                newest = index.attributes(found.ino).mtime_ns
                yield [[found.prefix], [""], [""], [0], [""], [newest], [None], [0], [0]]
        else:
            yield found


def _pieces(index: LmdbIndex, directory: int, prefix: bytes) -> Iterator[_Piece | _Below]:
    """Files of a directory as columns, and between them the subdirectories with their prefixes."""
    for run in index.runs_of(directory):
        sort_keys = run.sort_keys()
        columns = _columns(index, run, sort_keys, prefix)
        if not run.flags & HAS_DIRECTORIES:
            yield columns
            continue
        first, inos = 0, run.inos()
        for row, sort_key in enumerate(sort_keys):
            if sort_key.endswith(b"/"):
                if first < row:
                    yield [column[first:row] for column in columns]
                yield _Below(inos[row], prefix + sort_key)
                first = row + 1
        if first < len(sort_keys):
            yield [column[first:] for column in columns]


def _columns(index: LmdbIndex, run: Run, sort_keys: list[bytes], prefix: bytes) -> _Piece:
    cold = run.cold()
    return [
        [prefix + key for key in sort_keys],
        index.store_uris(cold.stores()),
        cold.keys(), run.sizes(), cold.etags(), run.mtimes_ns(), index.label_texts(cold.labels()),
        cold.offsets(), cold.lengths(),
    ]  # fmt: skip
