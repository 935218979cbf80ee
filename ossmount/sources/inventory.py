"""Inventories that S3 and OSS write of a bucket: a ``manifest.json`` and parts in CSV or Parquet.

What may live here: reading inventories. Who may touch it: whoever follows a change of theirs. The layout
is the one of the S3 user guide ("Locating your inventory list"); OSS writes the same with CSV parts.

Old versions and delete markers are left out. Keys are URL-encoded in CSV parts and plain in Parquet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from ossmount.errors import ManifestError, SettingsError, SourceError
from ossmount.json_text import read_json
from ossmount.places import is_missing
from ossmount.protocols import OpenStore
from ossmount.sources.arrow_csv import rows_of, table_batches
from ossmount.sources.columns import Rows
from ossmount.sources.parquet import checked_rows, parquet_batches
from ossmount.sources.parsing import Table, read_rows
from ossmount.sources.text_file import TextFile
from ossmount.uris import BUCKET_SCHEMES, join_uri, parse_uri

_LARGEST = 64 << 20
"""Bytes of the largest ``manifest.json`` that is believed: some 300,000 parts."""

_COLUMNS = {
    "key": "key",
    "size": "size",
    "etag": "etag",
    "lastmodifieddate": "mtime",
    "islatest": "is_latest",
    "isdeletemarker": "is_delete_marker",
}
"""Fields by their name in lower case without ``_``: CSV writes ``IsLatest``, Parquet ``is_latest``."""


@dataclass(frozen=True, slots=True)
class InventoryReader:
    """The rows of all parts, in the order of ``manifest.json``, below the base."""

    root: str
    prefix: str
    schema: tuple[str, ...]
    parts: Sequence[TextFile]
    parquet: bool

    @property
    def base_uri(self) -> str:
        """What the rows' keys are relative to."""
        return join_uri(self.root, self.prefix)

    def rows(self, file: TextFile) -> Iterator[Rows]:
        """Raises ManifestError with part and line or row, SourceError for a damaged part."""
        del file
        first = 0
        for part in self.parts:
            for rows in self._parquet_rows(part) if self.parquet else self._csv_rows(part):
                below = self._below(rows, first)
                first += len(below)
                if len(below):
                    yield below

    def line_of(self, file: TextFile, number: int) -> int:
        """The row among all that are current and below the base: parts have no common lines."""
        del file
        return number + 1

    def _csv_rows(self, part: TextFile) -> Iterator[Rows]:
        form = Table(self.schema, ",", header=False)
        with part.open() as stream:
            if not stream.read(1):
                return  # Arrow calls it an error
            try:
                for batch in map(_current, map(_of_one_line_each, table_batches(stream, form))):
                    if batch.num_rows:
                        rows = rows_of(0, batch)
                        yield dataclasses.replace(rows, keys=_decoded(rows.keys))
            except (ValueError, OSError) as error:
                raise _fault(part, form, error) from error

    def _parquet_rows(self, part: TextFile) -> Iterator[Rows]:
        with part.open() as stream:
            for batch in map(_current, parquet_batches(stream, part.place, _known)):
                if batch.num_rows:
                    yield checked_rows(0, batch, part.place)

    def _below(self, rows: Rows, first: int) -> Rows:
        """Rows whose keys begin with the prefix, without it."""
        skip = len(self.prefix)
        keep = [i for i, key in enumerate(rows.keys) if key.startswith(self.prefix) and len(key) > skip]
        if len(keep) == len(rows) and not skip:
            return dataclasses.replace(rows, first=first)

        def pick(column: Sequence[Any] | None) -> list[Any] | None:
            return None if column is None else [column[i] for i in keep]

        keys = [rows.keys[i][skip:] for i in keep]
        return Rows(first, keys, None, pick(rows.sizes), pick(rows.etags), pick(rows.mtimes_ns))


def open_inventory(file: TextFile, open_store: OpenStore, base_uri: str | None) -> InventoryReader | None:
    """The reader if ``file`` is an inventory's ``manifest.json``, else None. Raises SourceError."""
    with file.open() as stream:
        head = stream.read(64)
        if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return None
        text = head + stream.read(_LARGEST)
    try:
        manifest = read_json(text) if b'"fileSchema"' in text else None
    except ValueError:
        return None
    if not isinstance(manifest, dict) or not {"files", "fileFormat", "sourceBucket"} <= manifest.keys():
        return None
    return _reader(file.place, manifest, open_store, base_uri)


def _reader(
    place: str, manifest: dict[str, Any], open_store: OpenStore, base_uri: str | None
) -> InventoryReader:
    form = str(manifest["fileFormat"]).upper()
    if form not in {"CSV", "PARQUET"}:
        raise SourceError(f"{place}: inventories in {form} are not read", "have it written as CSV or Parquet")
    destination = str(manifest.get("destinationBucket", ""))
    root = f"{_scheme(place, destination, base_uri)}://{manifest['sourceBucket']}"
    base_root, prefix = parse_uri(base_uri if base_uri is not None else root)
    if base_root != root:
        raise SettingsError(f"{place} is the inventory of {root}, not of {base_root}", "correct --base-uri")
    schema = _known([field.strip() for field in str(manifest["fileSchema"]).split(",")])
    if form == "CSV" and "key" not in schema:
        raise SourceError(f"{place}: its fileSchema names no Key", "is this an inventory?")
    locate = _locator(place, destination)
    return InventoryReader(
        root,
        prefix if not prefix or prefix.endswith("/") else prefix + "/",
        schema,
        [TextFile(locate(str(part["key"])), open_store) for part in manifest["files"]],
        form == "PARQUET",
    )


def _scheme(place: str, destination: str, base_uri: str | None) -> str:
    """The vendor: told by where the inventory stands, or the base, or else by the form of its ARN."""
    for uri in (place, base_uri or ""):
        scheme = uri.partition("://")[0].lower()
        if scheme in BUCKET_SCHEMES:
            return scheme
    return "s3" if destination.startswith("arn:aws") else "oss"


def _locator(place: str, destination: str) -> Callable[[str], str]:
    """Where a part stands: in the destination bucket, or beside a local copy of ``manifest.json``."""
    scheme = place.partition("://")[0].lower()
    if scheme in BUCKET_SCHEMES:
        bucket = destination.rpartition(":")[2] or parse_uri(place)[0].partition("://")[2]
        return lambda key: f"{scheme}://{bucket}/{key}"
    folder = Path("/" + parse_uri(place)[1]).parent

    def beside(key: str) -> str:
        name = key.rpartition("/")[2]
        candidates = [folder / key, folder / name, folder / "data" / name, folder.parent / "data" / name]
        return str(next((path for path in candidates if not is_missing(path)), candidates[0]))

    return beside


def _known(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_COLUMNS.get(name.lower().replace("_", ""), "") for name in names)


def _decoded(keys: Sequence[str]) -> Sequence[str]:
    """Keys of CSV parts without their URL encoding."""
    return [unquote_plus(key, errors="strict") if "%" in key or "+" in key else key for key in keys]


def _of_one_line_each(batch: Any) -> Any:
    """Itself. Raises ValueError where a cell goes over a line: its quote is not closed, and what follows of
    the part is in it. No cell of an inventory holds a line break, since keys are encoded.
    """
    import pyarrow.compute as pc

    for column in batch.columns:
        if pc.any(pc.match_substring(column, "\n")).as_py():
            raise ValueError("a quote is not closed")
    return batch


def _current(batch: Any) -> Any:
    """Without old versions and delete markers, where the inventory has all versions."""
    import pyarrow.compute as pc

    for name, unwanted in (("is_latest", "false"), ("is_delete_marker", "true")):
        if name in batch.schema.names:
            batch = batch.filter(pc.not_equal(pc.utf8_lower(batch.column(name)), unwanted))
    return batch


def _fault(part: TextFile, form: Table, error: Exception) -> ManifestError:
    """Where and what, by the row parser."""
    try:
        with part.open() as stream:
            for _, row in read_rows(stream, form, part.place):
                unquote_plus(row.key, errors="strict")
    except ManifestError as precise:
        return precise
    except ValueError:
        pass
    return ManifestError(
        part.place, 1, f"somewhere in this part: {error}", "have the inventory written again"
    )
