"""The index, opened: :class:`ossmount.protocols.Index` over an index file.

What may live here: look-ups. Who may touch it: whoever measures look-ups and listings before and after.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from ossmount.errors import IndexDamaged, IsADirectory, NoSuchEntry, NotADirectory, StaleInode
from ossmount.index import envelope, layout
from ossmount.index.intervals import Interval, Intervals
from ossmount.index.layout import HAS_DIRECTORIES, ino_key, ino_of, parse_place, run_key
from ossmount.index.listings import listing_of, pieces_of
from ossmount.index.paging import Paging
from ossmount.index.runs import Cold, Run
from ossmount.model import (
    ROOT_INODE,
    Attributes,
    Child,
    Extent,
    FileRef,
    IndexInfo,
    Kind,
    Listing,
    ObjectId,
)

_KEPT_BYTES = 1 << 20
"""Of opened runs that are kept: 64 of the largest, whose neighbours are asked for together, and all of a tree
of some thousand files in small directories, which a program reads in any order."""

_META = frozenset(
    {"source", "created", "generation", "options", "files", "directories", "total_bytes", "root_links"}
    | {"root_mtime_ns", "next_ino", "stores", "labels", "counts"}
)
"""What every index says of itself."""

_attributes = partial(tuple.__new__, Attributes)
_child = partial(tuple.__new__, Child)


class LmdbIndex:
    """An immutable tree in an LMDB file. Opening reads a few pages whatever the size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        length, digest = envelope.trailer_of(path)
        try:
            self._env: Any = lmdb.open(
                str(path), subdir=False, readonly=True, lock=False, readahead=False,
                max_dbs=len(layout.TABLES), map_size=length,
            )  # fmt: skip
            handles = {name: self._env.open_db(name, create=False) for name in layout.TABLES}
            self._txn: Any = self._env.begin()
            self._run_cursor = self._txn.cursor(handles[layout.RUNS])
            self._ino_cursor = self._txn.cursor(handles[layout.INODES])
        except lmdb.Error as error:
            raise IndexDamaged(f"index {path} cannot be opened: {error}", envelope.REBUILD) from error
        self._handles = handles
        self._paging = Paging(path)
        self._kept: dict[bytes, Run] = {}
        self._kept_bytes = 0
        self._colds: dict[Run, Cold] = {}
        """Of the runs that are kept."""
        self._intervals = Intervals()
        self._meta = self._read_meta()
        self._checksum = envelope.name_checksum(digest)
        self._stores: list[str] = self._meta["stores"]
        self._labels: list[str] = self._meta["labels"]

    def _read_meta(self) -> dict[str, Any]:
        """What the index says of itself. Raises IndexDamaged, with the file closed."""
        try:
            meta: dict[str, Any] = json.loads(
                self._txn.get(layout.INFO_KEY, b"", db=self._handles[layout.META])
            )
            is_whole = meta.keys() >= _META
        except (lmdb.Error, ValueError, AttributeError):
            is_whole = False
        if not is_whole:
            self.close()
            raise IndexDamaged(
                f"index {self.path} is damaged: it does not say what it holds", envelope.REBUILD
            )
        return meta

    def __repr__(self) -> str:
        return f"LmdbIndex({str(self.path)!r}, generation={self._meta['generation']})"

    def __enter__(self) -> LmdbIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it. Raises IndexDamaged where LMDB found pages damaged in between."""
        self.close()
        if isinstance(error, lmdb.Error):
            raise IndexDamaged(f"index {self.path} is damaged: {error}", envelope.REBUILD) from error

    @property
    def meta(self) -> dict[str, Any]:
        """Everything that the index says of itself, counts of the report included."""
        return self._meta

    @property
    def ancestors(self) -> tuple[str, ...]:
        """Checksums of the generations that this one was built upon, the oldest first."""
        return tuple(self._meta.get("ancestors", ()))

    def info(self) -> IndexInfo:
        """See :class:`ossmount.protocols.Index`."""
        meta = self._meta
        return IndexInfo(
            format=layout.FORMAT, source=meta["source"], created=meta["created"],
            generation=meta["generation"], files=meta["files"], directories=meta["directories"],
            total_bytes=meta["total_bytes"], checksum=self._checksum, labels=tuple(self._labels),
            stores=tuple(self._stores), options=dict(meta["options"]),
        )  # fmt: skip

    def verify(self) -> None:
        """Reads the whole file and compares its checksum. Raises IndexDamaged."""
        envelope.verify(self.path)

    def close(self) -> None:
        """See :class:`ossmount.protocols.Index`."""
        self._let_go()
        self._run_cursor.close()
        self._ino_cursor.close()
        self._txn.abort()
        self._env.close()
        self._paging.close()

    # look-ups

    def lookup(self, parent: int, name: bytes) -> Attributes | None:
        """See :class:`ossmount.protocols.Index`."""
        if b"%" in name:
            ino = self._txn.get(ino_key(parent) + name, db=self._handles[layout.ALIASES])
            if ino is not None:
                return self.attributes(ino_of(ino))
        if b"/" not in name:
            for sort_key in (name, name + b"/"):
                run = self._run_at(parent, sort_key)
                if run is not None:
                    row = run.row_of(sort_key)
                    if row >= 0 and not run.display(row):
                        return run.attributes(row)
        self._require_directory(parent)
        return None

    def attributes(self, ino: int) -> Attributes:
        """See :class:`ossmount.protocols.Index`."""
        if ino == ROOT_INODE:
            meta = self._meta
            return Attributes(ROOT_INODE, Kind.DIRECTORY, 0, meta["root_mtime_ns"], meta["root_links"])
        run, row = self._place(ino)
        return run.attributes(row)

    def extent(self, ino: int) -> Extent:
        """See :class:`ossmount.protocols.Index`."""
        cold, row = self._file(ino)
        facts = cold.facts(row)
        identity = ObjectId(self._stores[facts.store], facts.key, facts.etag, facts.size)
        return Extent(identity, facts.offset, facts.length)

    def label(self, ino: int) -> str | None:
        """See :class:`ossmount.protocols.Index`."""
        if ino == ROOT_INODE:
            return None
        run, row = self._place(ino)
        return None if run.is_directory(row) else self._label_text(run.cold().label(row))

    def parent(self, ino: int) -> int:
        """See :class:`ossmount.protocols.Index`."""
        return ino if ino == ROOT_INODE else ino_of(self._home(ino)[0])

    def name(self, ino: int) -> bytes:
        """The inode's name in its directory (the root's is b""). Raises NoSuchEntry."""
        if ino == ROOT_INODE:
            return b""
        run, row = self._place(ino)
        return run.display(row) or run.sort_key(row).removesuffix(b"/")

    def path_of(self, ino: int) -> bytes:
        """The inode's path from the root, without a leading slash. Raises NoSuchEntry."""
        parts = []
        while ino != ROOT_INODE:
            parts.append(self.name(ino))
            ino = self.parent(ino)
        return b"/".join(reversed(parts))

    def resolve(self, path: bytes) -> int:
        """The inode number at ``path`` below the root. Raises NoSuchEntry, NotADirectory."""
        ino = ROOT_INODE
        for name in path.split(b"/"):
            if name:
                found = self.lookup(ino, name)
                if found is None:
                    raise NoSuchEntry(f"no such entry: {path.decode('utf-8', 'replace')!r}")
                ino = found.ino
        return ino

    # listings

    def listing(self, ino: int, after: int = 0) -> Iterator[Listing]:
        """See :class:`ossmount.protocols.Index`."""
        self._paging.listing()
        for run, row in self._runs_after(ino, after):
            yield listing_of(run, row)

    def children(self, ino: int, after: int = 0) -> Iterator[Sequence[Child]]:
        """See :class:`ossmount.protocols.Index`."""
        for names, inos, kinds, sizes, mtimes, links in self.listing(ino, after):
            attributes = map(_attributes, zip(inos, kinds, sizes, mtimes, links, strict=True))
            yield list(map(_child, zip(names, attributes, strict=True)))

    def files(self, ino: int, after: int = 0) -> Iterator[Sequence[FileRef]]:
        """See :class:`ossmount.protocols.Index`."""
        self._require_directory(ino)
        stack = [pieces_of(self._runs_after(directory, last)) for directory, last in self._trail(ino, after)]
        while stack:  # depth first; an explicit stack, as keys go deep
            piece = next(stack[-1], None)
            if piece is None:
                stack.pop()
            elif isinstance(piece, int):
                stack.append(pieces_of(self._runs_after(piece, 0)))
            else:
                yield piece

    def _trail(self, ino: int, after: int) -> list[tuple[int, int]]:
        """The directories from ``ino`` down to the one that holds ``after``, each with where it stands."""
        if not after:
            return [(ino, 0)]
        trail = []
        while after != ino:
            if after == ROOT_INODE:
                raise NoSuchEntry(f"inode {after} is not below inode {ino}")
            parent = self.parent(after)
            trail.append((parent, after))
            after = parent
        return trail[::-1]

    def runs_of(self, directory: int) -> Iterator[Run]:
        """The directory's runs in order. Raises NoSuchEntry, NotADirectory."""
        return (run for run, _ in self._runs_after(directory, 0))

    def runs_between(self, directory: int, first: bytes, last: bytes) -> Iterator[Run]:
        """The directory's runs that may hold sort keys from ``first`` to ``last``."""
        start = self._run_key_at(run_key(directory, first)) or run_key(directory, first)
        with self._txn.cursor(self._handles[layout.RUNS]) as cursor:
            more, end = cursor.set_range(start), run_key(directory, last)
            while more and cursor.key() <= end:
                yield Run(cursor.value())
                more = cursor.next()

    def _runs_after(self, directory: int, after: int) -> Iterator[tuple[Run, int]]:
        prefix = ino_key(directory)
        start, skip = prefix, 0
        if after:
            home, start = self._home(after)
            if home != prefix:
                raise StaleInode(f"inode {after} is not in directory {directory}")
            skip = self._place(after)[1] + 1
        with self._txn.cursor(self._handles[layout.RUNS]) as cursor:
            more = cursor.set_range(start)
            if not after and not (more and cursor.key()[:8] == prefix):
                self._require_directory(directory)
                return
            while more and cursor.key()[:8] == prefix:
                run = Run(cursor.value())
                if skip < run.count:
                    yield run, skip
                skip = 0
                more = cursor.next()

    # places

    def _run_at(self, directory: int, sort_key: bytes) -> Run | None:
        """The run of ``directory`` in which ``sort_key`` would stand."""
        found = self._run_key_at(run_key(directory, sort_key))
        return None if found is None else self._open(found)

    def _run_key_at(self, target: bytes) -> bytes | None:
        cursor = self._run_cursor
        if cursor.set_range(target):
            key: bytes = cursor.key()
            if key == target:
                return key
            if not cursor.prev():
                return None
        elif not cursor.last():
            return None
        key = cursor.key()
        return key if key[:8] == target[:8] else None

    def _open(self, key: bytes) -> Run:
        run = self._kept.get(key)
        if run is None:
            cursor = self._run_cursor
            data = (
                cursor.value() if cursor.key() == key else self._txn.get(key, db=self._handles[layout.RUNS])
            )
            if self._kept_bytes >= _KEPT_BYTES:
                self._let_go()
            run = self._kept[key] = Run(data)
            self._kept_bytes += len(data)
        return run

    def _let_go(self) -> None:
        self._kept.clear()
        self._colds.clear()
        self._kept_bytes = 0

    def _home(self, ino: int) -> tuple[bytes, bytes]:
        """The key prefix (the parent's number) and the key of the run that holds ``ino``."""
        count, _, rest = self._interval(ino)
        if count:
            return rest[:8], rest
        found = self._run_key_at(run_key(ino_of(rest), rest[8:]))
        if found is None:
            raise StaleInode(f"no inode {ino}")
        return rest[:8], found

    def _interval(self, ino: int) -> tuple[int, int, bytes]:
        """The place of ``ino``: count and row of its interval made its own (1 and its row), or 0 and 0."""
        first, count, row, rest = self._intervals.find(ino) or self._intervals.add(self._read_interval(ino))
        if ino - first >= max(count, 1):
            raise StaleInode(f"no inode {ino}")
        return min(count, 1), row + ino - first, rest

    def _read_interval(self, ino: int) -> Interval:
        """The last interval that begins at or before ``ino``."""
        cursor, target = self._ino_cursor, ino_key(ino)
        found = cursor.set_range(target)
        if not (found and cursor.key() == target) and not (cursor.prev() if found else cursor.last()):
            raise StaleInode(f"no inode {ino}")
        return Interval(ino_of(cursor.key()), *parse_place(cursor.value()))

    def _place(self, ino: int) -> tuple[Run, int]:
        count, row, rest = self._interval(ino)
        if count:
            run = self._kept.get(rest) or self._open(rest)
        else:
            found = self._run_at(ino_of(rest), rest[8:])
            if found is None:
                raise StaleInode(f"no inode {ino}")
            run, row = found, found.row_of(rest[8:])
        if row < 0 or run.ino(row) != ino:
            raise StaleInode(f"no inode {ino}")
        return run, row

    def _file(self, ino: int) -> tuple[Cold, int]:
        if ino == ROOT_INODE:
            raise IsADirectory("the root is a directory")
        run, row = self._place(ino)
        if run.flags & HAS_DIRECTORIES and run.is_directory(row):
            raise IsADirectory(f"inode {ino} is a directory")
        cold = self._colds.get(run)
        if cold is None:
            cold = self._colds[run] = run.cold()
        return cold, row

    def _require_directory(self, ino: int) -> None:
        if self.attributes(ino).kind is not Kind.DIRECTORY:
            raise NotADirectory(f"inode {ino} is not a directory")

    def _label_text(self, label: int | str | None) -> str | None:
        if isinstance(label, int):
            return self._labels[label - 1] if label else None
        return label

    def store_uris(self, numbers: list[int]) -> list[str]:
        """Root URIs of a run's stores."""
        stores = self._stores or [""]  # a tree of directories only has none
        return [stores[number] for number in numbers]

    def label_texts(self, labels: list[int | str | None]) -> list[str | None]:
        """Texts of a run's labels."""
        return [self._label_text(label) for label in labels]

    def report_rows(self) -> Iterator[bytes]:
        """The packed rows of the report, in order."""
        with self._txn.cursor(self._handles[layout.REPORT]) as cursor:
            yield from cursor.iternext(keys=False)


def open_index(path: Path) -> LmdbIndex:
    """Opens the index at ``path``. Raises IndexFileError (missing), IndexVersionError, IndexDamaged."""
    return LmdbIndex(path)
