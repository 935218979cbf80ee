"""A manifest: a text that names objects, with labels, sizes and ETags as far as it knows them.

What may live here: the source that is a manifest. The rules of the text are in
:mod:`ossmount.sources.parsing`. Who may touch it: whoever changes how a manifest is mounted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from ossmount.errors import ManifestError
from ossmount.model import EntryBatch
from ossmount.protocols import OpenStore, Report
from ossmount.sources.arrow_csv import read_table
from ossmount.sources.columns import BATCH_ROWS, Rows
from ossmount.sources.listed import ListedObjects
from ossmount.sources.parsing import Form, Plain, Row, detect_form, read_rows
from ossmount.sources.text_file import TextFile


class ManifestSource:
    """The objects that a manifest lists, in its order.

    ``place`` is a local path, ``-`` or a URI; gzip is recognised. Relative paths belong to ``base_uri``;
    complete URIs below it are relative to it as well. Without a base all paths have to be complete URIs,
    and what they have in common is left out (:class:`ossmount.sources.naming.CommonDirectory`).
    """

    def __init__(
        self,
        place: str,
        base_uri: str | None,
        open_store: OpenStore,
        *,
        concurrency: int = 64,
        skip_missing: bool = False,
    ) -> None:
        self._file = TextFile(place, open_store)
        self._base_uri = base_uri
        self._open_store = open_store
        self._concurrency = concurrency
        self._skip_missing = skip_missing

    def __repr__(self) -> str:
        return f"ManifestSource({self.description!r})"

    @property
    def description(self) -> str:
        """``manifest PLACE`` and the base, if any."""
        base = "" if self._base_uri is None else f" below {self._base_uri}"
        return f"manifest {self._file.place}{base}"

    @property
    def sorted(self) -> bool:
        """Not known before it has been read."""
        return False

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """All entries. Raises ManifestError, SourceError and StoreError."""
        with self._file.open() as stream:
            form = detect_form(stream, self._file.place)
        remedy = "correct the manifest, or leave such objects out with --on-missing skip"
        if form == Plain(tabbed=False):
            remedy = f'write paths with spaces in "double quotes"; {remedy}'
        return ListedObjects(
            description=self.description,
            rows=lambda: self._rows(form),
            where=lambda number: (self._file.place, self._line_of(form, number)),
            open_store=self._open_store,
            base_uri=self._base_uri,
            concurrency=self._concurrency,
            skip_missing=self._skip_missing,
            remedy=remedy,
        ).batches(report)

    def _rows(self, form: Form) -> Iterator[Rows]:
        with self._file.open() as stream:
            if isinstance(form, Plain):
                yield from _in_batches(row for _, row in read_rows(stream, form, self._file.place))
                return
            try:
                yield from read_table(stream, form)
            except ValueError as error:
                raise self._fault(form, error) from error

    def _fault(self, form: Form, error: ValueError) -> ManifestError:
        """Where and what: the fast reader only knows that something is wrong."""
        line = 1
        try:
            with self._file.open() as stream:
                for line, _ in read_rows(stream, form, self._file.place):  # noqa: B007 - the last counts
                    pass
        except ManifestError as precise:
            return precise
        return ManifestError(self._file.place, line, f"at or before this line: {error}", "correct the table")

    def _line_of(self, form: Form, number: int) -> int:
        with self._file.open() as stream:
            rows = read_rows(stream, form, self._file.place)
            return next(islice((line for line, _ in rows), number, None), 1)


def _in_batches(rows: Iterable[Row]) -> Iterator[Rows]:
    """Plain manifests have keys and labels only."""
    rows, first = iter(rows), 0
    while chunk := list(islice(rows, BATCH_ROWS)):
        yield Rows(first, [row.key for row in chunk], [row.label for row in chunk])
        first += len(chunk)
