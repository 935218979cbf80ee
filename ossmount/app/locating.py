"""From paths and labels to inode numbers, through the index of a live mount: the mount is not asked.

The supervisor opens no index, so whoever speaks to it brings numbers. The index is opened for one question
and closed again: an open one must not cross a fork.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence

from ossmount.app.runtime import MountRecord
from ossmount.errors import FileSystemError, SourceError
from ossmount.index import open_index
from ossmount.model import ROOT_INODE, Attributes, FileRef, Kind
from ossmount.protocols import Index

File = int | str | bytes | os.PathLike[str]
"""An inode number, or a path: relative to the mountpoint, or absolute below it."""


FIRST_PART = 256
"""Paths looked up before the first are passed on: 2 ms, and what is fetched while the others are."""


def inodes_of(record: MountRecord, files: Sequence[File]) -> Iterator[Sequence[int]]:
    """The inode numbers of ``files``: the first few soon, then the rest.

    Raises SourceError for a path that is no file of the mount.
    """
    if all(isinstance(file, int) for file in files):
        yield [file for file in files if isinstance(file, int)]
        return
    with open_index(record.file) as index:
        finder = Finder(index, record.mountpoint)
        for part in (files[:FIRST_PART], files[FIRST_PART:]):
            yield array("Q", (file if isinstance(file, int) else finder.file(file) for file in part))


def files_below(
    record: MountRecord, paths: Sequence[File], label: str | None = None
) -> tuple[Sequence[int], Sequence[int]]:
    """(inodes, lengths in bytes) of the files named or below the directories named, each once.

    No ``paths``: all. ``label``: only files that have it. Raises SourceError where a path is not there.
    """
    inos, lengths = array("Q"), array("Q")
    seen: set[int] = set()
    with open_index(record.file) as index:
        finder = Finder(index, record.mountpoint)
        for path in paths or [""]:
            for ref in finder.below(path):
                unseen = len(paths) <= 1 or ref.ino not in seen
                if unseen and (label is None or index.label(ref.ino) == label):
                    inos.append(ref.ino)
                    lengths.append(ref.length)
                    if len(paths) > 1:
                        seen.add(ref.ino)
    return inos, lengths


class Finder:
    """Looks paths up; directories are remembered, for most files share theirs with others."""

    def __init__(self, index: Index, mountpoint: str) -> None:
        self._index = index
        self._mountpoint = os.fsencode(mountpoint)
        self._below = self._mountpoint + b"/"
        self._directories = {b"": ROOT_INODE}

    def __repr__(self) -> str:
        return f"Finder({self._mountpoint!r}, {len(self._directories)} directories)"

    def file(self, path: File) -> int:
        """The inode of a file. Raises SourceError."""
        found = self._find(path)
        if found.kind is not Kind.FILE:
            raise SourceError(f"{os.fsdecode(_bytes(path))!r} is a directory", "name files")
        return found.ino

    def below(self, path: File) -> Iterator[FileRef]:
        """The file, or every file below the directory, in index order. Raises SourceError."""
        found = self._find(path)
        if found.kind is Kind.FILE:
            yield FileRef(found.ino, found.size)
            return
        for chunk in self._index.files(found.ino):
            yield from chunk

    def _find(self, path: File) -> Attributes:
        if isinstance(path, int):
            return self._attributes(path, str(path))
        relative = self._relative(_bytes(path))
        directory, _, name = relative.rpartition(b"/")
        if not name:
            return self._index.attributes(ROOT_INODE)
        above = self._directory(directory)
        found = None if above is None else self._lookup(above, name)
        if found is None:
            raise _missing(os.fsdecode(relative))
        return found

    def _relative(self, path: bytes) -> bytes:
        tidy = b"//" not in path and b"/." not in path and not path.endswith(b"/")
        if tidy and path.startswith(self._below):
            return path[len(self._below) :]
        if path.startswith(b"/"):
            path = self._inside(os.path.normpath(path))
        return b"/".join(part for part in path.split(b"/") if part not in {b"", b"."})

    def _inside(self, path: bytes) -> bytes:
        """``path`` without the mountpoint before it. The mount itself is not touched to find out."""
        if path == self._mountpoint or path.startswith(self._mountpoint + b"/"):
            return path[len(self._mountpoint) :]
        raise SourceError(
            f"{os.fsdecode(path)!r} is not below {os.fsdecode(self._mountpoint)}",
            "name paths below the mountpoint without symbolic links, or relative to it",
        )

    def _directory(self, path: bytes) -> int | None:
        ino = self._directories.get(path)
        if ino is None:
            above, _, name = path.rpartition(b"/")
            parent = self._directory(above)
            found = None if parent is None else self._lookup(parent, name)
            if found is None or found.kind is not Kind.DIRECTORY:
                return None
            ino = self._directories[path] = found.ino
        return ino

    def _lookup(self, parent: int, name: bytes) -> Attributes | None:
        try:
            return self._index.lookup(parent, name)
        except FileSystemError:
            return None

    def _attributes(self, ino: int, shown: str) -> Attributes:
        try:
            return self._index.attributes(ino)
        except FileSystemError as error:
            raise _missing(shown) from error


def _bytes(path: File) -> bytes:
    return b"%d" % path if isinstance(path, int) else os.fsencode(path)


def _missing(path: str) -> SourceError:
    return SourceError(f"no {path!r} in this mount", "paths are relative to the mountpoint; see 'ls'")
