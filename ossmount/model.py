"""Values that every room speaks of. Frozen, without behaviour beyond their own arithmetic.

What may live here: plain values with no I/O. Who may touch it: everyone; it imports nothing but the
standard library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple

ROOT_INODE = 1
"""Inode number of a mount's root, as FUSE fixes it (``FUSE_ROOT_ID``)."""

DIGEST_BYTES = 16
"""Length of a block's digest."""

NAME_MAX = 255
"""Longest file name in bytes (``NAME_MAX`` of Linux)."""


class Kind(IntEnum):
    """What an inode is. There are no links and no special files in a bucket."""

    FILE = 0
    DIRECTORY = 1


class ObjectId(NamedTuple):
    """One version of one object: identity carries the version, so new content is a new object.

    ``store`` is the root URI of its store (``s3://bucket``, ``oss://bucket``, ``file:///``,
    ``https://host``), ``key`` the key in that store (``file``: the absolute path without the leading
    slash; ``http``: path and query without the leading slash), ``etag`` the entity tag as the store
    gives it, without the enclosing quotes ("" where the store has none), ``size`` in bytes.
    """

    store: str
    key: str
    etag: str
    size: int


class Extent(NamedTuple):
    """A file's bytes: ``length`` bytes of ``object`` from ``offset``. A plain object is ``(0, size)``."""

    object: ObjectId
    offset: int
    length: int

    @property
    def block(self) -> BlockId:
        """All of it as one block, as small files are fetched and cached."""
        return BlockId(self.object, self.offset, self.length)


class BlockId(NamedTuple):
    """A byte range of one object version, the unit that is fetched, cached and verified.

    ``offset`` and ``length`` are bytes within the object. Planners only make canonical ranges (a whole
    small extent, or an aligned block of a large one), so equal bytes get equal ids.
    """

    object: ObjectId
    offset: int
    length: int

    def digest(self) -> bytes:
        """16 bytes that stand for (store, key, etag, offset, length): 2^64 work for a collision.

        BLAKE2b and not the five times faster XXH3: whoever may name objects in a bucket chooses the input,
        and XXH3 collisions can be constructed. A collision would give one object's bytes for another's. The
        price is 0.4 µs. The lengths in front make the concatenation unambiguous whatever the strings
        contain. Part of the disk cache's format: to change it is a new layout version.
        """
        store, key, etag, _size = self.object
        text = f"{len(store)} {len(key)} {len(etag)} {self.offset} {self.length}\n{store}{key}{etag}"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


class ObjectInfo(NamedTuple):
    """What a store tells of an object. ``mtime_ns`` is Last-Modified in nanoseconds since the epoch."""

    key: str
    size: int
    etag: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing, column by column: listing is measured in hundreds of thousands of keys/s.

    The four columns have equal length and are sorted by the UTF-8 bytes of ``keys``. ``prefixes`` are
    the common prefixes of a delimited listing (with their trailing delimiter).
    """

    keys: Sequence[str]
    sizes: Sequence[int]
    etags: Sequence[str]
    mtimes_ns: Sequence[int]
    prefixes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def objects(self) -> Iterator[ObjectInfo]:
        """The page row by row."""
        return map(ObjectInfo, self.keys, self.sizes, self.etags, self.mtimes_ns)


class Entry(NamedTuple):
    """One file as a source gives it, before it has a name in the tree.

    ``path`` is the wished path relative to the mount, raw bytes, components split by ``/``; the index
    room turns components that cannot be POSIX names into names (SEMANTICS, Names). ``label`` is None
    when unlabelled. A path that ends in ``/`` with an empty extent is a directory marker.
    """

    path: bytes
    extent: Extent
    label: str | None
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class EntryBatch:
    """Some thousand entries, column by column, all of equal length.

    Rows are columns because an index of ten million objects is built at half a million rows a second
    and a Python object per row would cost more than everything else. ``sizes`` are the whole objects'
    sizes. ``offsets``/``lengths`` are None where every extent is the whole object. ``labels`` may be
    None where nothing is labelled.
    """

    paths: Sequence[bytes]
    stores: Sequence[str]
    keys: Sequence[str]
    sizes: Sequence[int]
    etags: Sequence[str]
    mtimes_ns: Sequence[int]
    labels: Sequence[str | None] | None = None
    offsets: Sequence[int] | None = None
    lengths: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> EntryBatch:
        """The batch that holds ``entries`` (for sources where rows are natural, and for tests)."""
        objects = [entry.extent.object for entry in entries]
        return cls(
            paths=[entry.path for entry in entries],
            stores=[o.store for o in objects],
            keys=[o.key for o in objects],
            sizes=[o.size for o in objects],
            etags=[o.etag for o in objects],
            mtimes_ns=[entry.mtime_ns for entry in entries],
            labels=[entry.label for entry in entries],
            offsets=[entry.extent.offset for entry in entries],
            lengths=[entry.extent.length for entry in entries],
        )

    def entries(self) -> Iterator[Entry]:
        """The batch row by row."""
        for i, path in enumerate(self.paths):
            identity = ObjectId(self.stores[i], self.keys[i], self.etags[i], self.sizes[i])
            offset = self.offsets[i] if self.offsets is not None else 0
            length = self.lengths[i] if self.lengths is not None else self.sizes[i]
            label = self.labels[i] if self.labels is not None else None
            yield Entry(path, Extent(identity, offset, length), label, self.mtimes_ns[i])


class Attributes(NamedTuple):
    """What ``stat`` needs of an inode. ``size`` and ``mtime_ns`` as in :class:`ObjectInfo`.

    ``links`` is 1 for a file and 2 + the number of subdirectories for a directory.
    """

    ino: int
    kind: Kind
    size: int
    mtime_ns: int
    links: int


class Child(NamedTuple):
    """One name of a directory. Its position in the directory is its inode number (see Index.children)."""

    name: bytes
    attributes: Attributes


class Listing(NamedTuple):
    """Children of a directory, column by column and of equal length: what READDIRPLUS answers with.

    Columns, because a listing is answered at hundreds of thousands of names a second. The fields are
    those of :class:`Child` and :class:`Attributes`.
    """

    names: Sequence[bytes]
    inos: Sequence[int]
    kinds: Sequence[Kind]
    sizes: Sequence[int]
    mtimes_ns: Sequence[int]
    links: Sequence[int]


class FileRef(NamedTuple):
    """A file in index order, as readahead sees it: inode number and length in bytes."""

    ino: int
    length: int


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What ``ossmount index info`` prints and ``statfs`` needs."""

    format: int
    source: str
    created: float
    """Seconds since the epoch."""
    generation: int
    files: int
    directories: int
    total_bytes: int
    checksum: str
    labels: Sequence[str] = ()
    stores: Sequence[str] = ()
    """Root URIs of all stores that hold its objects."""
    options: dict[str, str] = field(default_factory=dict)
    """The options that shaped the tree (layout, filters, split …), by their long option name."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of long work: units done, of ``total`` where it is known, and what the unit is."""

    stage: str
    done: int
    total: int | None
    unit: str
