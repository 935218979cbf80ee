"""An object list: complete URIs and nothing else.

What may live here: the source that is such a list. Who may touch it: whoever changes what a list is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from ossmount.model import EntryBatch
from ossmount.protocols import OpenStore, Report
from ossmount.sources.columns import BATCH_ROWS, Rows
from ossmount.sources.listed import ListedObjects
from ossmount.sources.parsing import read_lines
from ossmount.sources.text_file import TextFile
from ossmount.uris import shown_uri


class ObjectListSource:
    """Objects by complete URI, possibly of several buckets and schemes, from a text or from ``uris``.

    In a text every line that is not blank is one URI, to its end: spaces and tabs belong to the key.
    What the URIs have in common is left out of the paths, see
    :class:`ossmount.sources.naming.CommonDirectory` for the rule.
    """

    def __init__(
        self,
        place: str | None,
        open_store: OpenStore,
        *,
        uris: Sequence[str] = (),
        concurrency: int = 64,
        skip_missing: bool = False,
    ) -> None:
        self._file = None if place is None else TextFile(place, open_store)
        self._uris = tuple(uris)
        self._open_store = open_store
        self._concurrency = concurrency
        self._skip_missing = skip_missing

    def __repr__(self) -> str:
        return f"ObjectListSource({self.description!r})"

    @property
    def description(self) -> str:
        """``objects PLACE``, or the first URI and how many follow."""
        names = [] if self._file is None else [self._file.place]
        if self._uris:
            more = f" and {len(self._uris) - 1} more" if len(self._uris) > 1 else ""
            names.append(f"{shown_uri(self._uris[0])}{more}")
        return f"objects {', '.join(names)}"

    @property
    def sorted(self) -> bool:
        """A list has its own order."""
        return False

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """All entries: those of ``uris`` first. Raises ManifestError, SourceError and StoreError."""
        return ListedObjects(
            description=self.description,
            rows=self._rows,
            where=self._where,
            open_store=self._open_store,
            concurrency=self._concurrency,
            skip_missing=self._skip_missing,
        ).batches(report)

    def _rows(self) -> Iterator[Rows]:
        numbered, first = self._numbered(), 0
        while chunk := [uri for _, _, uri in islice(numbered, BATCH_ROWS)]:
            yield Rows(first, chunk)
            first += len(chunk)

    def _where(self, number: int) -> tuple[str, int]:
        return next((place, line) for place, line, _ in islice(self._numbered(), number, None))

    def _numbered(self) -> Iterator[tuple[str, int, str]]:
        """Place, line and URI of every object."""
        for number, uri in enumerate(self._uris, 1):
            yield "argument", number, uri
        if self._file is None:
            return
        with self._file.open() as stream:
            for number, line in read_lines(stream, self._file.place):
                yield self._file.place, number, line
