"""Building an index file: feed, fall back to sorting, seal, rename.

What may live here: the order of the steps. Who may touch it: whoever changes what a build promises:
nothing is left behind by a failure, and what stands under the final name is complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack

from ossmount.errors import EmptySource
from ossmount.index import envelope, layout
from ossmount.index.exporting import export, report
from ossmount.index.generations import PreviousTree
from ossmount.index.reading import LmdbIndex, open_index
from ossmount.index.settling import Settler
from ossmount.index.sorting import Sorter
from ossmount.index.storage import Tables, translated
from ossmount.index.tree_writer import TreeWriter
from ossmount.model import EntryBatch, IndexInfo, Progress
from ossmount.protocols import Report

_CARRIED = ("merge", "skip")
"""Rows of the report about entries that are gone after the first pass, so a second cannot find them."""


class _Build:
    """One index file in the making."""

    def __init__(self, path: Path, on_bad_key: str, previous: LmdbIndex | None) -> None:
        self.path = path
        self.tables = Tables(path)
        self.settler = Settler(self.tables, on_bad_key)
        self.writer = TreeWriter(
            self.tables, self.settler, None if previous is None else PreviousTree(previous)
        )
        self._generation = 1 if previous is None else previous.info().generation + 1

    def finish(self, source: str, options: Mapping[str, str]) -> None:
        """Completes the tables and seals the file."""
        links, newest = self.writer.finish()
        writer, settler = self.writer, self.settler
        info: dict[str, Any] = {
            "source": source, "created": time.time(), "generation": self._generation,
            "options": dict(options), "files": writer.files, "directories": writer.directories,
            "total_bytes": writer.total_bytes, "root_links": links, "root_mtime_ns": newest,
            "next_ino": writer.next_ino, "stores": settler.stores.texts, "labels": settler.labels.texts,
            "counts": {"rename": settler.renames, "merge": settler.merges, "skip": settler.skips,
                       "marker": settler.markers},
        }  # fmt: skip
        self.tables.finish(msgpack.packb(info, unicode_errors="surrogateescape"))
        envelope.seal(self.path)


def build(
    source_batches: Iterator[EntryBatch],
    path: Path,
    *,
    source: str,
    sorted_input: bool = False,
    options: Mapping[str, str] | None = None,
    on_bad_key: str = "escape",
    report: Report | None = None,
    previous: LmdbIndex | None = None,
) -> IndexInfo:
    """Builds the index of ``source_batches`` at ``path`` and says what it holds.

    Writes beside ``path`` and renames at the end, so ``path`` is either as it was or complete. Batches are
    taken as they come while they are in order of their paths; from the first that is not, everything goes
    through an external sort. So order is always checked, and ``sorted_input`` only tells whether a second
    pass was to be expected (it shows in the progress). ``previous`` is the generation before: paths that
    it has keep their inode numbers.

    Raises EmptySource, SourceError (of the batches), NameRefused, IndexFileError.
    """
    say = report or (lambda _: None)
    with translated(path), envelope.beside(path) as temporary:
        made = _build_at(temporary, source_batches, on_bad_key, previous, say, not sorted_input)
        try:
            if not made.writer.rows:
                raise EmptySource(f"{source} names no object", "check the URI and the filters")
            made.finish(source, options or {})
        finally:
            made.tables.abandon()
    with open_index(path) as index:
        return index.info()


def _build_at(
    path: Path,
    batches: Iterator[EntryBatch],
    on_bad_key: str,
    previous: LmdbIndex | None,
    say: Report,
    expected: bool,
) -> _Build:
    """Feeds everything; the result is not finished."""
    build_ = _Build(path, on_bad_key, previous)
    try:
        for batch in batches:
            if not build_.writer.accepts(batch.paths):
                break
            build_.writer.feed(batch)
            say(Progress("index", build_.writer.rows, None, "objects"))
        else:
            return build_
        raise NotImplementedError
    except BaseException:
        build_.tables.abandon()
        raise
