"""Looking into an index file: what the commands below ``ossmount index`` show."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from ossmount import index
from ossmount.app import indexes
from ossmount.app.standard_input import standard_input_as_file
from ossmount.app.views import info_of
from ossmount.config import Settings
from ossmount.errors import IndexFileError, NoSuchEntry, SourceError
from ossmount.model import ROOT_INODE, Child, EntryBatch, IndexInfo, Kind
from ossmount.places import is_directory
from ossmount.protocols import Index, Report
from ossmount.uris import join_uri

EXPORT_HEADER = ("key", "size", "etag", "label", "mtime")
"""Columns that :class:`ossmount.sources.ManifestSource` takes back without a request."""


def build_index(uris: Sequence[str], path: str, settings: Settings, report: Report) -> IndexInfo:
    """Builds the index at ``path``; leaves nothing behind where it fails."""
    target = Path(path)
    if is_directory(target):
        raise IndexFileError(f"{target} is a directory", "name the file to write")
    with standard_input_as_file(settings, target.parent) as settled:
        return indexes.build_index(uris, target, settled, report)


def index_info(path: str) -> IndexInfo:
    """What the index says of itself. Raises IndexFileError."""
    return info_of(Path(path))


def index_ls(path: str, directory: str) -> Iterator[Child]:
    """The children of ``directory`` in index order. Raises SourceError where there is no such directory."""
    with index.open_index(Path(path)) as opened:
        ino = _descend(opened, directory)
        for children in opened.children(ino):
            yield from children


def _descend(opened: Index, directory: str) -> int:
    ino = ROOT_INODE
    for name in filter(None, directory.encode("utf-8", "surrogateescape").split(b"/")):
        try:
            found = opened.lookup(ino, name)
        except NoSuchEntry:
            found = None
        if found is None:
            raise SourceError(f"no {directory!r} in this index", "see 'ossmount index ls INDEX'")
        if found.kind is not Kind.DIRECTORY:
            raise SourceError(f"{directory!r} is not a directory of this index", "name the one that holds it")
        ino = found.ino
    return ino


def index_report(path: str) -> Iterator[index.ReportRow]:
    """Every rename, merge and skip of the build."""
    with index.open_index(Path(path)) as opened:
        yield from index.report(opened)


def index_export(path: str, output: IO[bytes]) -> int:
    """Writes the index as a TSV manifest with a header; returns the number of rows."""
    rows = 0
    text = io.TextIOWrapper(
        output, encoding="utf-8", errors="surrogateescape", newline="", write_through=True
    )
    try:
        table = csv.writer(text, delimiter="\t", lineterminator="\n")
        table.writerow(EXPORT_HEADER)
        with index.open_index(Path(path)) as opened:
            for batch in index.export(opened):
                table.writerows(_export_rows(batch))
                rows += len(batch)
    finally:
        text.detach()
    return rows


def _export_rows(batch: EntryBatch) -> Iterator[tuple[str, int, str, str, str]]:
    for entry in batch.entries():
        target = entry.extent.object
        yield (
            join_uri(target.store, target.key),
            target.size,
            target.etag,
            entry.label or "",
            f"{entry.mtime_ns / 1e9:.9f}",
        )
