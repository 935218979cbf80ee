"""A manifest: a text that names objects, with labels, sizes and ETags as far as it knows them.

What may live here: the source that is a manifest. Its forms are
read in :mod:`ossmount.sources.readers`. Who may touch it: whoever changes how a manifest is mounted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ossmount.errors import ManifestError, SourceError, TwoSizes
from ossmount.model import EntryBatch
from ossmount.protocols import OpenStore, Report
from ossmount.sources.inventory import open_inventory
from ossmount.sources.listed import ListedObjects
from ossmount.sources.parsing import Plain
from ossmount.sources.readers import Hook, TextReader, open_reader
from ossmount.sources.text_file import TextFile
from ossmount.uris import shown_object, shown_uri

_HEADER = "if this line names columns, say which holds the paths, as in --columns key=path"
"""A header with other names than ours looks like a path."""


class ManifestSource:
    """The objects that a manifest lists, in its order.

    ``place`` is a local path, ``-`` or a URI; gzip is recognised. Relative paths belong to ``base_uri``;
    complete URIs below it are relative to it as well. Without a base all paths have to be complete URIs,
    and what they have in common is left out (:class:`ossmount.sources.naming.CommonDirectory`).

    The form is told by the content: plain or a table in TSV or CSV
    (:mod:`ossmount.sources.parsing`), JSON lines, Parquet, or the ``manifest.json`` of an
    inventory (:mod:`ossmount.sources.inventory`); ``mapping`` says which columns to read
    (:func:`ossmount.sources.columns.parse_columns`). ``hook`` is a function that reads any other form.
    """

    def __init__(
        self,
        place: str,
        base_uri: str | None,
        open_store: OpenStore,
        *,
        concurrency: int = 64,
        skip_missing: bool = False,
        mapping: Mapping[str, str] | None = None,
        hook: Hook | None = None,
    ) -> None:
        self._file = TextFile(place, open_store)
        self._base_uri = base_uri
        self._open_store = open_store
        self._concurrency = concurrency
        self._skip_missing = skip_missing
        self._mapping = mapping or {}
        self._hook = hook

    def __repr__(self) -> str:
        return f"ManifestSource({self.description!r})"

    @property
    def description(self) -> str:
        """``manifest PLACE`` and the base, if any."""
        base = "" if self._base_uri is None else f" below {shown_uri(self._base_uri)}"
        return f"manifest {self._file.place}{base}"

    @property
    def sorted(self) -> bool:
        """Not known before it has been read."""
        return False

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """All entries. Raises ManifestError, SourceError and StoreError."""
        return self._objects().batches(report)

    def two_sizes(self, error: TwoSizes) -> SourceError:
        """``error`` with file and rows. Reads the manifest again; raises what that raises."""
        places = self._objects().rows_of(error.root, error.key)
        for place, line, size in places[1:]:
            if size != places[0].size:
                first = places[0]
                uri = shown_object(error.root, error.key)
                message = f"{uri} has {size} bytes here and {first.size} in {first.place}:{first.line}"
                return ManifestError(place, line, message, "keep the row that is right")
        return error

    def _objects(self) -> ListedObjects:
        inventory = None
        if self._hook is None:
            inventory = open_inventory(self._file, self._open_store, self._base_uri)
        reader = inventory or open_reader(self._file, self._mapping, self._hook)
        remedy = "correct the manifest, or leave such objects out with --on-missing skip"
        is_plain = isinstance(reader, TextReader) and isinstance(reader.form, Plain)
        if isinstance(reader, TextReader) and reader.form == Plain(tabbed=False):
            remedy = f'write paths with spaces in "double quotes"; {remedy}'
        return ListedObjects(
            description=self.description,
            rows=lambda: reader.rows(self._file),
            where=lambda number: (self._file.place, reader.line_of(self._file, number)),
            open_store=self._open_store,
            base_uri=self._base_uri if inventory is None else inventory.base_uri,
            literal=inventory is not None,
            concurrency=self._concurrency,
            skip_missing=self._skip_missing,
            remedy=remedy,
            first_remedy=f"{_HEADER}; or {remedy}" if is_plain else None,
        )
