"""The interfaces between rooms. No bodies, no defaults: a capability is a stated fact.

``ObjectStore``, ``Source``, ``Index`` and ``BlockCache`` are synchronous: the libraries under them
block. Threads appear in one place, the fetcher of :mod:`ossmount.readahead`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from ossmount.model import (
    Attributes,
    BlockId,
    Child,
    EntryBatch,
    Extent,
    FileRef,
    IndexInfo,
    Listing,
    ListPage,
    ObjectId,
    ObjectInfo,
    Progress,
)


class ObjectStore(Protocol):
    """A bucket, a file system or a host. Thread-safe. One instance must not cross a fork."""

    @property
    def uri(self) -> str:
        """Root URI without a trailing slash (``s3://bucket``); equals ``ObjectId.store``."""
        ...

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """Pages of keys that start with ``prefix`` and are greater than ``start_after``, in order.

        Raises BucketMissing, AccessDenied, StoreUnavailable.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """Raises ObjectMissing, AccessDenied, StoreUnavailable."""
        ...

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """Exactly ``length`` bytes of ``target`` from ``start``, of exactly that version (If-Match).

        An empty ``etag`` asks for no If-Match. ``length`` 0 gives b"" without a request. A short answer
        is StoreUnavailable. Raises ObjectChanged, ObjectMissing, AccessDenied, Throttled,
        StoreUnavailable.
        """
        ...

    def close(self) -> None:
        """Frees connections and threads. Further calls are errors."""
        ...


OpenStore = Callable[[str], ObjectStore]
"""Gives the (shared, cached) store for a root URI such as ``s3://bucket``."""


class Sink(Protocol):
    """Where a body belongs, from its first byte to its last."""

    def room(self) -> memoryview:
        """Where the next bytes belong, writable and not empty while some are missing."""
        ...

    def came(self, count: int) -> None:
        """The first ``count`` bytes of :meth:`room` have been written."""
        ...


class Transfers(Protocol):
    """GETs under way without a thread for each. Belongs to one thread; no method waits."""

    def fileno(self) -> int:
        """A descriptor that is readable when :meth:`work` has something to do."""
        ...

    def start(
        self,
        target: ObjectId,
        start: int,
        length: int,
        arrived: Callable[[bytes | None], None],
        sink: Sink | None = None,
    ) -> bool:
        """Sends the GET of ``ObjectStore.get_range``; False where it has to be made that way.

        A later :meth:`work` calls ``arrived``: with the bytes (perhaps a ``bytearray``), exactly as asked
        for, or with None where ``get_range`` is to be asked instead, which will tell what is wrong. What
        comes of the right version is written into ``sink`` before ``arrived`` (then without bytes: b"")
        says whether that was all.
        """
        ...

    def work(self) -> bool:
        """Takes in what has come, and tells whether anything had. To be called now and then even while there
        is nothing to read.
        """
        ...

    def close(self) -> None:
        """Ends what is under way; ``arrived`` is not called any more."""
        ...


Report = Callable[[Progress], None]
"""Where long work says how far it is. Called often; the receiver decides how often it shows."""


class Source(Protocol):
    """Where the files of a mount come from: a prefix, a manifest, an object list, a table."""

    @property
    def description(self) -> str:
        """One line, reproducible, without secrets: what ``index info`` prints as source."""
        ...

    @property
    def sorted(self) -> bool:
        """True where paths come in byte order, so that the index may skip the sort."""
        ...

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """All entries. Raises SourceError and StoreError."""
        ...


class Index(Protocol):
    """An immutable tree. Every method is a look-up of microseconds; safe to call from one thread.

    Inode numbers are stable for the life of an index and, for unchanged keys, across refreshes.
    """

    def lookup(self, parent: int, name: bytes) -> Attributes | None:
        """The child of that name; None where there is none. Raises NoSuchEntry, NotADirectory."""
        ...

    def attributes(self, ino: int) -> Attributes:
        """Raises NoSuchEntry."""
        ...

    def children(self, ino: int, after: int = 0) -> Iterator[Sequence[Child]]:
        """The directory's children in index order, in chunks, from behind the child ``after``.

        ``after`` is the inode number of the last child that was seen, 0 at the beginning: a position
        that needs no state between requests. Raises NoSuchEntry, NotADirectory.
        """
        ...

    def listing(self, ino: int, after: int = 0) -> Iterator[Listing]:
        """The same as :meth:`children`, column by column. Raises NoSuchEntry, NotADirectory."""
        ...

    def extent(self, ino: int) -> Extent:
        """Raises NoSuchEntry, IsADirectory."""
        ...

    def label(self, ino: int) -> str | None:
        """The file's label. Raises NoSuchEntry."""
        ...

    def parent(self, ino: int) -> int:
        """The directory that holds ``ino`` (the root's is the root). Raises NoSuchEntry."""
        ...

    def files(self, ino: int, after: int = 0) -> Iterator[Sequence[FileRef]]:
        """All files below the directory ``ino`` in index order (depth first), in chunks.

        ``after`` is a file below ``ino`` from behind which to go on, 0 for the beginning.
        """
        ...

    def info(self) -> IndexInfo:
        """What the index says of itself."""
        ...

    def close(self) -> None:
        """Unmaps the file."""
        ...


class BlockCache(Protocol):
    """Blocks by id. Thread-safe. Never raises to a reader: a bad block is a miss."""

    def get(self, block: BlockId) -> bytes | None:
        """The block's bytes, verified, or None."""
        ...

    def put(self, block: BlockId, data: bytes) -> None:
        """Keeps ``data`` if there is room and reason; may decline in silence."""
        ...

    def close(self) -> None:
        """Writes out what must be and frees files."""
        ...


@runtime_checkable
class PartialBlockCache(BlockCache, Protocol):
    """A block cache that also gives parts of blocks, and tells what it has."""

    def get_range(self, block: BlockId, start: int, length: int) -> bytes | None:
        """Bytes ``start`` to ``start + length`` of the block (less at its end), verified, or None."""
        ...

    def contains(self, block: BlockId) -> bool:
        """Whether ``get`` would probably hit. Reads no data and does not count as use."""
        ...


@runtime_checkable
class ResidentBlockCache(PartialBlockCache, Protocol):
    """A block cache that knows what it can give at once."""

    def get_resident(self, block: BlockId) -> bytes | memoryview | None:
        """As ``get``, if no disk is waited for, or for less than a millisecond. None says nothing but that.

        For one thread: a view holds these bytes until the next call only.
        """
        ...

    def reading_ahead(self, blocks: Sequence[BlockId]) -> tuple[Sequence[bool], Callable[[], None]]:
        """Which of ``blocks`` it has, and what to call for those to be brought near.

        The call may wait for the disk; it never raises.
        """
        ...
