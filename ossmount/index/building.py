"""Building an index file: feed, fall back to sorting, seal, rename.

What may live here: the order of the steps. Who may touch it: whoever changes what a build promises:
nothing is left behind by a failure, and what stands under the final name is complete.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossmount.errors import EmptySource, SourceError
from ossmount.index import envelope
from ossmount.index.exporting import ReportRow, export
from ossmount.index.exporting import report as report_rows
from ossmount.index.generations import PreviousTree
from ossmount.index.reading import LmdbIndex, open_index
from ossmount.index.settling import Settler
from ossmount.index.storage import Tables, translated
from ossmount.index.tree_writer import TreeWriter
from ossmount.model import EntryBatch, IndexInfo, Progress
from ossmount.protocols import Report

if TYPE_CHECKING:
    from ossmount.index.sorting import Sorter

_CARRIED = ("merge", "skip")
"""Rows of the report about entries that are gone after the first pass, so a second cannot find them."""

_ANCESTORS = 256
"""Generations whose checksums an index remembers; a mount that is further behind starts anew."""


class _Build:
    """One index file in the making."""

    def __init__(self, path: Path, on_bad_key: str, previous: LmdbIndex | None, one_size: bool) -> None:
        self.path = path
        self.tables = Tables(path)
        self.settler = Settler(self.tables, on_bad_key, one_size=one_size)
        self.writer = TreeWriter(
            self.tables, self.settler, None if previous is None else PreviousTree(previous)
        )
        self._generation = 1 if previous is None else previous.info().generation + 1
        self._ancestors: list[str] = []
        if previous is not None:
            self._ancestors = [*previous.ancestors, previous.info().checksum][-_ANCESTORS:]

    def carry(self, rows: list[ReportRow]) -> None:
        """Takes over rows of an earlier report."""
        for row in rows:
            self.settler.carry(row.what, row.key, row.name, row.reason)

    def finish(self, source: str, options: Mapping[str, str]) -> None:
        """Completes the tables and seals the file."""
        links, newest = self.writer.finish()
        writer, settler = self.writer, self.settler
        info: dict[str, Any] = {
            "source": source, "created": time.time(), "generation": self._generation,
            "ancestors": self._ancestors, "options": dict(options),
            "files": writer.files, "directories": writer.directories,
            "total_bytes": writer.total_bytes, "root_links": links, "root_mtime_ns": newest,
            "next_ino": writer.next_ino, "stores": settler.stores.texts, "labels": settler.labels.texts,
            "counts": {"rename": settler.renames, "merge": settler.merges, "skip": settler.skips},
        }  # fmt: skip
        self.tables.finish(json.dumps(info).encode())
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
    one_size: bool = False,
) -> IndexInfo:
    """Builds the index of ``source_batches`` at ``path`` and says what it holds.

    Writes beside ``path`` and renames at the end, so ``path`` is either as it was or complete. Batches are
    taken as they come while they are in order of their paths; from the first that is not, everything goes
    through an external sort. Order is always checked, so ``sorted_input``, the source's word on it, changes
    nothing but what a reader of the call may expect. ``previous`` is the generation before: files that are
    the same in it, and directories, keep their inode numbers; no number is ever given to something else.
    ``one_size`` refuses two sizes of one object, which a list of objects cannot mean.

    Raises EmptySource, TwoSizes, SourceError (of the batches), NameRefused, IndexFileError.
    """
    del sorted_input
    say = report or (lambda _: None)
    with translated(path), envelope.beside(path) as temporary:
        again = (on_bad_key, previous, one_size)
        making = _Build(temporary, *again)
        try:
            making = _feed_all(making, _taken(source_batches, source), say, again)
            if not making.writer.rows:
                raise EmptySource(f"{source} names no object", "check the URI and the filters")
            say(Progress("finish", 0, None, "bytes"))
            making.finish(source, options or {})
        finally:
            making.tables.abandon()
    with open_index(path) as index:
        return index.info()


def _taken(batches: Iterator[EntryBatch], source: str) -> Iterator[EntryBatch]:
    """The batches; errors of the system while they are read are the source's, not the index's."""
    try:
        yield from batches
    except OSError as error:
        raise SourceError(f"cannot read {source}: {error.strerror or error}", "check the source") from error


def _feed_all(
    making: _Build, batches: Iterator[EntryBatch], say: Report, again: tuple[str, LmdbIndex | None, bool]
) -> _Build:
    """Feeds everything; gives ``making``, or the second build where the input was not in order.

    Whatever happens, the build that is not given is closed and its file is gone.
    """
    for batch in batches:
        if not making.writer.accepts(batch.paths):
            return _sort_rest(making, itertools.chain((batch,), batches), say, again)
        making.writer.feed(batch)
        say(Progress("index", making.writer.rows, None, "objects"))
    return making


def _sort_rest(
    first: _Build, batches: Iterator[EntryBatch], say: Report, again: tuple[str, LmdbIndex | None, bool]
) -> _Build:
    """Sorts what ``first`` took and everything else, and feeds it to a new build in the same place."""
    from ossmount.index.sorting import Sorter  # pyarrow and numpy: 35 MB that a mount does without

    with Sorter(first.path) as sorter:
        carried = _reopen(first, sorter)
        for batch in batches:
            sorter.add(batch)
            say(Progress("sort", sorter.rows, None, "objects"))
        second = _Build(first.path, *again)
        try:
            second.carry(carried)
            for batch in sorter.merged():
                second.writer.feed(batch)
                say(Progress("index", second.writer.rows, sorter.rows, "objects"))
        except BaseException:
            second.tables.abandon()
            raise
    return second


def _reopen(first: _Build, sorter: Sorter) -> list[ReportRow]:
    """Moves the entries of an unfinished build to ``sorter`` and removes its file.

    Gives the rows of its report on entries that are gone already.
    """
    carried: list[ReportRow] = []
    try:
        if first.writer.rows:
            first.finish("", {})
            with open_index(first.path) as index:
                for batch in export(index, directories=True):
                    sorter.add(batch)
                carried = [row for row in report_rows(index) if row.what in _CARRIED]
    finally:
        first.tables.abandon()
        first.path.unlink(missing_ok=True)
    return carried
