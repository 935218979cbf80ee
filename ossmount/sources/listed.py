"""Objects that are named one by one, whoever names them: from rows to complete entries.

What may live here: what manifests, object lists and tables have in common. Who may touch it: whoever
changes how rows become entries; the forms themselves are parsed elsewhere.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ossmount.errors import EmptySource, ManifestError, SettingsError
from ossmount.model import EntryBatch, ObjectInfo, Progress
from ossmount.protocols import OpenStore, Report
from ossmount.sources.columns import UNKNOWN_SIZE, Rows
from ossmount.sources.naming import BaseDirectory, CommonDirectory
from ossmount.sources.sizes import SizeFetcher
from ossmount.uris import BUCKET_SCHEMES, SCHEMES, is_uri, parse_uri, shown_object, shown_uri

WINDOW_ROWS = 250_000
"""Rows held while their sizes are fetched: about 100 MB, and enough keys of one directory together
that LIST pays even for a shuffled manifest."""

LONGEST_PATH = 8192
"""Bytes of a path in the tree. Keys have 1,024 at most, local paths 4,096, and web servers refuse longer
URLs; a path of a megabyte could say half a million directories."""

_NAMED = 3
"""Missing objects named in an error; more would not fit a line."""

_logger = logging.getLogger(__name__)


class _Naming(Protocol):
    def path(self, store: str, key: str) -> bytes: ...
    def paths(self, store: str, keys: Sequence[str]) -> list[bytes]: ...


class PlacedRow(NamedTuple):
    """Where a row stands, and the size that it says (UNKNOWN_SIZE: none)."""

    place: str
    line: int
    size: int


@dataclass(frozen=True, slots=True)
class ListedObjects:
    """Rows and all that is needed to make entries of them.

    ``rows`` reads from the beginning each time it is called. ``where`` gives file and line of a row by
    its number; it may be slow. ``base_uri`` None means that keys are complete URIs. ``remedy`` is for
    objects that do not exist, ``first_remedy`` for that of the first row, if another may help there.
    """

    description: str
    rows: Callable[[], Iterator[Rows]]
    where: Callable[[int], tuple[str, int]]
    open_store: OpenStore
    base_uri: str | None = None
    literal: bool = False
    concurrency: int = 64
    skip_missing: bool = False
    remedy: str = "correct the list, or leave such objects out with --on-missing skip"
    first_remedy: str | None = None

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """Complete entries in the order of the rows. Raises SourceError and StoreError."""
        fetcher, done, empty = SizeFetcher(self.concurrency), 0, True
        try:
            for window in _windows(self._located(self._naming())):
                for batch in self._complete(window, done, fetcher, report):
                    empty = empty and not len(batch)
                    yield batch
                done += sum(map(len, window))
                report(Progress("reading", done, None, "objects"))
        finally:
            fetcher.close()
        if empty:
            raise EmptySource(f"{self.description} names no object", "check that it is the right file")

    def rows_of(self, store: str, key: str) -> list[PlacedRow]:
        """The rows that name an object, with the sizes that they say."""
        found, naming = [], self._naming()
        for rows in self.rows():
            stores, keys, _ = self._identities(rows, naming)
            for i, pair in enumerate(zip(stores, keys, strict=True)):
                if pair == (store, key):
                    size = rows.sizes[i] if rows.sizes is not None else UNKNOWN_SIZE
                    found.append(PlacedRow(*self.where(rows.first + i), size))
        return found

    def _naming(self) -> _Naming:
        if self.base_uri is not None:
            return BaseDirectory(*_base(self.base_uri))
        naming = CommonDirectory()
        for rows in self.rows():
            alike = _of_one_bucket(rows.keys)
            if alike is not None:
                naming.add_column(*alike)
                continue
            for number, text in enumerate(rows.keys, rows.first):
                naming.add(*self._resolve(text, number))
        return naming

    def _located(self, naming: _Naming) -> Iterator[EntryBatch]:
        """Entries with UNKNOWN_SIZE and empty ETags where rows do not tell them."""
        for rows in self.rows():
            count = len(rows)
            stores, keys, paths = self._identities(rows, naming)
            self._check_paths(rows.first, paths)
            yield EntryBatch(
                paths=paths,
                stores=stores,
                keys=keys,
                sizes=rows.sizes if rows.sizes is not None else [UNKNOWN_SIZE] * count,
                etags=rows.etags if rows.etags is not None else [""] * count,
                mtimes_ns=rows.mtimes_ns if rows.mtimes_ns is not None else [0] * count,
                labels=rows.labels,
            )

    def _check_paths(self, first: int, paths: Sequence[bytes]) -> None:
        if max(map(len, paths), default=0) > LONGEST_PATH:
            number, path = next((i, path) for i, path in enumerate(paths, first) if len(path) > LONGEST_PATH)
            raise ManifestError(
                *self.where(number),
                f"the path {path[:40].decode('utf-8', 'replace')!r}… has {len(path)} bytes, the limit is"
                f" {LONGEST_PATH}",
                "is this a list of objects?",
            )

    def _identities(
        self, rows: Rows, naming: _Naming
    ) -> tuple[Sequence[str], Sequence[str], Sequence[bytes]]:
        """Stores, keys and paths; by columns where all keys are relative, or URIs of one bucket."""
        if self.base_uri is not None and (self.literal or not any("://" in text for text in rows.keys)):
            root, prefix = _base(self.base_uri)
            if not root.startswith("http"):
                keys = [prefix + text for text in rows.keys] if prefix else rows.keys
                paths = [text.encode("utf-8", "surrogateescape") for text in rows.keys]
                return [root] * len(rows), keys, paths
        alike = None if self.literal else _of_one_bucket(rows.keys)
        if alike is not None:
            return [alike[0]] * len(rows), alike[1], naming.paths(*alike)
        pairs = [self._resolve(text, number) for number, text in enumerate(rows.keys, rows.first)]
        return (
            [store for store, _ in pairs],
            [key for _, key in pairs],
            [naming.path(store, key) for store, key in pairs],
        )

    def _resolve(self, text: str, number: int) -> tuple[str, str]:
        """Store and key of one row. A complete URI is one with a scheme that is known."""
        if is_uri(text) and (self.base_uri is None or text.partition("://")[0].lower() in SCHEMES):
            try:
                root, key = parse_uri(text)
            except SettingsError as error:
                raise ManifestError(*self.where(number), error.message, error.remedy) from error
            if not key:
                raise ManifestError(
                    *self.where(number), f"{shown_uri(text)!r} names no object", "write bucket and key"
                )
            return root, key
        if self.base_uri is None:
            raise ManifestError(
                *self.where(number),
                f"{text!r} is not a complete URI",
                "write s3://bucket/key, or give --manifest and --base-uri",
            )
        root, prefix = _base(self.base_uri)
        return root, prefix + text

    def _complete(
        self, window: Sequence[EntryBatch], first: int, fetcher: SizeFetcher, report: Report
    ) -> Iterator[EntryBatch]:
        """The window's batches with everything known. ``first`` is the number of its first row."""
        if all(_is_complete(batch) for batch in window):
            yield from window
            return
        found = self._fetch(window, fetcher, report)
        missing = _missing(window, first, found)
        if missing and not self.skip_missing:
            raise self._missing_error(missing, first + sum(map(len, window)))
        if missing:
            _logger.warning(
                "%s: %d objects do not exist and are left out, the first is %s:%d",
                self.description,
                len(missing),
                *self.where(missing[0][0]),
            )
        for batch in window:
            yield _filled(batch, found)

    def _fetch(
        self, window: Sequence[EntryBatch], fetcher: SizeFetcher, report: Report
    ) -> dict[str, dict[str, ObjectInfo]]:
        wanted: dict[str, set[str]] = {}
        for batch in window:
            for store, key, size, etag in zip(
                batch.stores, batch.keys, batch.sizes, batch.etags, strict=True
            ):
                if size < 0 or not etag:
                    wanted.setdefault(store, set()).add(key)
        total, done = sum(map(len, wanted.values())), 0

        def settled(count: int) -> None:
            nonlocal done
            done += count
            report(Progress("sizes", done, total, "objects"))

        return {
            root: fetcher.fetch(self.open_store(root), sorted(keys), settled) for root, keys in wanted.items()
        }

    def _missing_error(self, missing: Sequence[tuple[int, str]], rows: int) -> ManifestError:
        number, uri = missing[0]
        message = f"{uri} does not exist"
        if len(missing) > 1:
            others = ", ".join(uri for _, uri in missing[1:_NAMED])
            message += f", one of {len(missing)} missing among the first {rows} rows (also {others})"
        remedy = self.remedy if number else self.first_remedy or self.remedy
        return ManifestError(*self.where(number), message, remedy)


def _base(uri: str) -> tuple[str, str]:
    """The base as a directory."""
    root, prefix = parse_uri(uri)
    return root, prefix if not prefix or prefix.endswith("/") else prefix + "/"


def _of_one_bucket(texts: Sequence[str]) -> tuple[str, list[str]] | None:
    """Root and keys where all ``texts`` are complete URIs of one bucket; None says nothing.

    This is the usual case, and three times as fast as taking URIs one by one.
    """
    scheme, separator, rest = texts[0].partition("://")
    bucket, slash, _ = rest.partition("/")
    start = f"{scheme}://{bucket}/"
    if not (
        separator and slash and scheme in BUCKET_SCHEMES and all(text.startswith(start) for text in texts)
    ):
        return None
    try:
        root, _ = parse_uri(start)
    except SettingsError:
        return None
    keys = [text[len(start) :] for text in texts]
    return None if "" in keys else (root, keys)


def _windows(batches: Iterator[EntryBatch]) -> Iterator[list[EntryBatch]]:
    """Batches that are complete alone at once; others together, up to WINDOW_ROWS."""
    window: list[EntryBatch] = []
    rows = 0
    for batch in batches:
        window.append(batch)
        rows += len(batch)
        if rows >= WINDOW_ROWS or (len(window) == 1 and _is_complete(batch)):
            yield window
            window, rows = [], 0
    if window:
        yield window


def _is_complete(batch: EntryBatch) -> bool:
    return len(batch) == 0 or (min(batch.sizes) >= 0 and "" not in batch.etags)


def _missing(
    window: Sequence[EntryBatch], first: int, found: dict[str, dict[str, ObjectInfo]]
) -> list[tuple[int, str]]:
    """Row numbers and URIs of what was wanted and not found."""
    missing = []
    for batch in window:
        for i, (store, key, size, etag) in enumerate(
            zip(batch.stores, batch.keys, batch.sizes, batch.etags, strict=True)
        ):
            if (size < 0 or not etag) and key not in found[store]:
                missing.append((first + i, shown_object(store, key)))
        first += len(batch)
    return missing


def _filled(batch: EntryBatch, found: dict[str, dict[str, ObjectInfo]]) -> EntryBatch:
    """The batch with what was found; rows that were not found are left out.

    An object that was asked for has the store's size and ETag: a manifest's size without an ETag may
    be of another version. A time that the manifest gives stays.
    """
    if _is_complete(batch):
        return batch
    columns: list[tuple[bytes, str, str, int, str, int, str | None]] = []
    labels = batch.labels if batch.labels is not None else [None] * len(batch)
    for path, store, key, size, etag, mtime_ns, label in zip(
        batch.paths, batch.stores, batch.keys, batch.sizes, batch.etags, batch.mtimes_ns, labels, strict=True
    ):
        if size >= 0 and etag:
            columns.append((path, store, key, size, etag, mtime_ns, label))
        elif (info := found[store].get(key)) is not None:
            columns.append((path, store, key, info.size, info.etag, mtime_ns or info.mtime_ns, label))
    rows = list(zip(*columns, strict=True)) or [()] * 7
    filled = EntryBatch(*rows[:6])
    return dataclasses.replace(filled, labels=rows[6]) if batch.labels is not None else filled
