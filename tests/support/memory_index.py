"""An index in dicts, for tests: implements ``ossmount.protocols.Index`` fully.

Names are taken as they are (no escapes). Inodes are numbered depth first in byte order, a directory
before what it holds, as a built index numbers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from ossmount.errors import IsADirectory, NoSuchEntry, NotADirectory
from ossmount.model import (
    ROOT_INODE,
    Attributes,
    Child,
    Entry,
    Extent,
    FileRef,
    IndexInfo,
    Kind,
    Listing,
    ObjectId,
)

MTIME_NS = 1_700_000_000_000_000_000


class MemoryIndex:
    """``MemoryIndex(entries)``; ``ino(b"a/b")`` finds an inode by path, ``paths`` has them all."""

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        source: str = "memory://",
        generation: int = 0,
        chunk: int = 256,
    ) -> None:
        rows = {entry.path: entry for entry in entries}
        self.paths: dict[int, bytes] = {}
        self._inos: dict[bytes, int] = {}
        self._parents: dict[int, int] = {ROOT_INODE: ROOT_INODE}
        self._children: dict[int, dict[bytes, int]] = {}
        self._entries: dict[int, Entry] = {}
        self._chunk = chunk
        self._add_directory(b"", ROOT_INODE)
        for path in sorted(rows, key=lambda path: path.split(b"/")):
            self._add(path, rows[path])
        sizes = [entry.extent.length for entry in self._entries.values()]
        self._info = IndexInfo(
            1, source, 0.0, generation, len(sizes), len(self._children), sum(sizes), "none"
        )
        self.closed = False

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, int], store: str = "memory://b", chunk: int = 256) -> MemoryIndex:
        """Files by path with their sizes; keys are the paths, ETags follow from them."""
        return cls(
            (
                Entry(
                    path.encode(),
                    Extent(ObjectId(store, path, f"etag-{path}", size), 0, size),
                    None,
                    MTIME_NS,
                )
                for path, size in sizes.items()
            ),
            chunk=chunk,
        )

    def ino(self, path: bytes) -> int:
        """The inode of ``path`` (b"" is the root)."""
        return self._inos[path]

    def lookup(self, parent: int, name: bytes) -> Attributes | None:
        ino = self._directory(parent).get(name)
        return None if ino is None else self.attributes(ino)

    def attributes(self, ino: int) -> Attributes:
        if (entry := self._entries.get(ino)) is not None:
            return Attributes(ino, Kind.FILE, entry.extent.length, entry.mtime_ns, 1)
        children = self._directory(ino).values()
        return Attributes(ino, Kind.DIRECTORY, 0, 0, 2 + sum(c in self._children for c in children))

    def children(self, ino: int, after: int = 0) -> Iterator[Sequence[Child]]:
        rows = iter(
            [Child(name, self.attributes(c)) for name, c in self._directory(ino).items() if c > after]
        )
        return iter(lambda: list(islice(rows, self._chunk)), [])

    def listing(self, ino: int, after: int = 0) -> Iterator[Listing]:
        for chunk in self.children(ino, after):
            rows = [child.attributes for child in chunk]
            yield Listing(
                names=[child.name for child in chunk],
                inos=[row.ino for row in rows],
                kinds=[row.kind for row in rows],
                sizes=[row.size for row in rows],
                mtimes_ns=[row.mtime_ns for row in rows],
                links=[row.links for row in rows],
            )

    def extent(self, ino: int) -> Extent:
        return self._file(ino).extent

    def label(self, ino: int) -> str | None:
        return self._file(ino).label

    def parent(self, ino: int) -> int:
        if ino not in self._parents:
            raise NoSuchEntry(f"no inode {ino}")
        return self._parents[ino]

    def files(self, ino: int, after: int = 0) -> Iterator[Sequence[FileRef]]:
        rows = self._behind(ino, after)
        return iter(lambda: list(islice(rows, self._chunk)), [])

    def info(self) -> IndexInfo:
        return self._info

    def close(self) -> None:
        self.closed = True

    def _behind(self, ino: int, after: int) -> Iterator[FileRef]:
        above = after
        while after and above != ino:
            if above == ROOT_INODE:
                raise NoSuchEntry(f"inode {after} is not below inode {ino}")
            above = self.parent(above)
        yield from (ref for ref in self._below(ino) if ref.ino > after)

    def _below(self, ino: int) -> Iterator[FileRef]:
        for child in self._directory(ino).values():
            if child in self._children:
                yield from self._below(child)
            else:
                yield FileRef(child, self._entries[child].extent.length)

    def _directory(self, ino: int) -> dict[bytes, int]:
        if ino in self._entries:
            raise NotADirectory(f"inode {ino} is a file")
        if ino not in self._children:
            raise NoSuchEntry(f"no inode {ino}")
        return self._children[ino]

    def _file(self, ino: int) -> Entry:
        if ino in self._children:
            raise IsADirectory(f"inode {ino} is a directory")
        if ino not in self._entries:
            raise NoSuchEntry(f"no inode {ino}")
        return self._entries[ino]

    def _add(self, path: bytes, entry: Entry) -> None:
        parts = path.split(b"/")
        parent = ROOT_INODE
        for depth in range(1, len(parts)):
            directory = b"/".join(parts[:depth])
            if directory not in self._inos:
                self._link(parent, parts[depth - 1], directory)
                self._add_directory(directory, self._inos[directory])
            parent = self._inos[directory]
        if parts[-1]:  # a path that ends in "/" is a directory marker
            self._link(parent, parts[-1], path)
            self._entries[self._inos[path]] = entry

    def _link(self, parent: int, name: bytes, path: bytes) -> None:
        ino = len(self._inos) + 1
        self._inos[path], self.paths[ino] = ino, path
        self._parents[ino] = parent
        self._children[parent][name] = ino

    def _add_directory(self, path: bytes, ino: int) -> None:
        self._inos[path], self.paths[ino] = ino, path
        self._children[ino] = {}
