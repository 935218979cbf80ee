"""Everything below a prefix, as LIST gives it.

What may live here: the source that is a prefix. Who may touch it: whoever changes what a prefix means.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ossmount.errors import AccessDenied, EmptySource, ObjectMissing, SourceError
from ossmount.model import EntryBatch, ListPage, Progress
from ossmount.protocols import ObjectStore, OpenStore, Report
from ossmount.sources.listing_process import ListingProcess, ListingStores, may_fork
from ossmount.sources.listing_spool import Spool
from ossmount.sources.parallel_listing import LIST_CONCURRENCY, ParallelListing
from ossmount.uris import join_uri

STAGE = "listing"


class PrefixSource:
    """All objects whose keys begin with ``prefix``, a directory; paths are what follows it.

    A prefix without a trailing slash names a directory: ``train`` means ``train/``, and ``train2/x`` is
    not part of it. If there is no such directory but an object of that name, that is a SourceError: an
    object is not a tree. The prefix's own zero-byte marker (``train/``) is the mount's root and no entry.

    ``concurrency`` key ranges are listed at once. ``spool`` is a file that keeps what was listed where a
    listing fails, so that the next one goes on; it is removed when everything has been given.

    With ``lister`` a forked process lists, so that it and the reader have a core each; without, and where
    this process has threads that a fork would lose, threads of this process do.
    """

    def __init__(
        self,
        root_uri: str,
        prefix: str,
        open_store: OpenStore,
        *,
        spool: Path | None = None,
        concurrency: int = LIST_CONCURRENCY,
        lister: ListingStores | None = None,
    ) -> None:
        self._root_uri = root_uri
        self._prefix = prefix if prefix.endswith("/") or not prefix else prefix + "/"
        self._open_store = open_store
        self._spool = spool
        self._concurrency = concurrency
        self._lister = lister

    def __repr__(self) -> str:
        return f"PrefixSource({self.description!r})"

    @property
    def description(self) -> str:
        """The prefix as a URI with its trailing slash."""
        return join_uri(self._root_uri, self._prefix)

    @property
    def sorted(self) -> bool:
        """Always: stores list in byte order, and removing the same beginning keeps it."""
        return True

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """One batch a page. Raises EmptySource, SourceError and StoreError."""
        some = False
        for page in self._pages(lambda done: report(Progress(STAGE, done, None, "objects"))):
            batch = self._batch(page)
            if len(batch):
                some = True
                yield batch
        if not some:
            raise self._nothing(self._open_store(self._root_uri))

    def _pages(self, listed: Callable[[int], None]) -> Iterator[ListPage]:
        """All pages; where reading them breaks off, what was listed is kept for the next time."""
        spool = Spool(self._spool, self.description)
        with closing(spool):
            yield from self._listing(spool).pages(listed)
            spool.remove()

    def _listing(self, spool: Spool) -> ParallelListing | ListingProcess:
        if self._lister is not None and may_fork():
            return ListingProcess(self._lister, self._root_uri, self._prefix, spool, self._concurrency)
        return ParallelListing(self._open_store(self._root_uri), self._prefix, spool, self._concurrency)

    def _batch(self, page: ListPage) -> EntryBatch:
        skip = len(self._prefix)
        batch = EntryBatch(
            paths=[key[skip:].encode("utf-8", "surrogateescape") for key in page.keys],
            stores=[self._root_uri] * len(page),
            keys=page.keys,
            sizes=page.sizes,
            etags=page.etags,
            mtimes_ns=page.mtimes_ns,
        )
        # The root's marker can only be the very first key of the listing.
        if len(batch) and not batch.paths[0] and not batch.sizes[0]:
            return _without_first(batch)
        return batch

    def _nothing(self, store: ObjectStore) -> SourceError:
        """Why nothing was listed; an object of that name deserves a better word than "empty"."""
        name = self._prefix.removesuffix("/")
        if not name:
            return EmptySource(f"{self.description} holds no object", "check the name of the bucket")
        # Who may list but not read gets 403 for HEAD: then it is just empty.
        with contextlib.suppress(ObjectMissing, AccessDenied):
            store.head(name)
            return SourceError(
                f"{join_uri(self._root_uri, name)} is an object, not a directory",
                "mount the directory that holds it, or name objects with --objects or --manifest",
            )
        return EmptySource(
            f"{self.description} holds no object",
            "check the spelling of the prefix, upper and lower case count",
        )


def _without_first(batch: EntryBatch) -> EntryBatch:
    return EntryBatch(
        paths=batch.paths[1:],
        stores=batch.stores[1:],
        keys=batch.keys[1:],
        sizes=batch.sizes[1:],
        etags=batch.etags[1:],
        mtimes_ns=batch.mtimes_ns[1:],
    )
