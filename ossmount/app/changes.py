"""Changes between two generations, as rows of a report and as what a kernel must forget.

What may live here: the two forms and their files. Who may touch it: whoever changes what a swap of
generations must invalidate (SEMANTICS, Consistency).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ossmount.errors import NoSuchEntry
from ossmount.index import Change, ChangeKind
from ossmount.model import ROOT_INODE
from ossmount.protocols import Index


class ChangedPath(NamedTuple):
    """A row of ``index refresh --report``. ``path`` as the tree shows it, a directory's with a slash."""

    what: str
    path: bytes


def row_of(change: Change) -> ChangedPath:
    """The row of one change. ``touched`` is a file of which only time or label are new."""
    what = change.kind.value
    if change.kind is ChangeKind.CHANGED and not change.content:
        what = "touched"
    return ChangedPath(what, change.path + (b"/" if change.directory else b""))


class Name(NamedTuple):
    """A name that the kernel must look up again."""

    parent: int
    name: bytes


class Inode(NamedTuple):
    """An inode whose attributes the kernel must ask for again."""

    ino: int


class InvalidationFile:
    """Writes what a kernel that knows the old generation must forget. Give every change to :meth:`add`.

    No pages are ever forgotten: files with new content have new inode numbers, so what the kernel holds
    under an old one is the old generation's, and right for whoever still has that file open.
    """

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._above: set[int] = set()
        self.count = 0

    def add(self, change: Change) -> None:
        """One more change, in index order."""
        self._above.add(change.parent)
        if change.kind is ChangeKind.CHANGED and not change.content:
            self._write([change.ino])
        else:
            self._write([change.parent, os.fsdecode(change.name)])

    def finish(self, new: Index) -> None:
        """Adds the directories above the changes: their times and links are new."""
        done: set[int] = set()
        for directory in self._above:
            ino = directory
            while ino not in done:
                done.add(ino)
                self._write([ino])
                try:
                    ino = new.parent(ino) if ino != ROOT_INODE else ino
                except NoSuchEntry:
                    break  # gone itself; its own parent is among the changed ones

    def _write(self, row: list[int | str]) -> None:
        self.count += 1
        self._output.write(json.dumps(row) + "\n")


def read_invalidations(path: Path) -> Iterator[Name | Inode]:
    """What :class:`InvalidationFile` wrote."""
    with path.open(encoding="ascii") as rows:
        for line in rows:
            row = json.loads(line)
            yield Inode(*row) if len(row) == 1 else Name(row[0], os.fsencode(row[1]))
