"""What changed from one generation to the next.

What may live here: the merge of two trees in order. Who may touch it: whoever changes what a swap of
generations must invalidate (SEMANTICS, Consistency).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from ossmount.index.generations import Content, contents_of
from ossmount.index.layout import HAS_DIRECTORIES
from ossmount.index.listings import row_names
from ossmount.index.reading import LmdbIndex
from ossmount.model import ROOT_INODE


class ChangeKind(Enum):
    """What happened to a path."""

    ADDED = "added"
    CHANGED = "changed"
    GONE = "gone"


class Change(NamedTuple):
    """A path that is not the same in two generations.

    ``parent`` and ``name`` are what the kernel knows of it (of a parent that is gone: the old number),
    ``ino`` its new number, or the old one where it is gone. ``content`` is False where only the time or
    the label is different: the number is the same then and cached bytes stay good; a file with other
    content has another number than before. Directories appear when they are added or gone.
    """

    kind: ChangeKind
    path: bytes
    ino: int
    parent: int
    name: bytes
    directory: bool
    content: bool


class _Row(NamedTuple):
    sort_key: bytes
    name: bytes
    ino: int
    content: Content | None
    """None for a directory."""
    rest: tuple[int, str | None]


class _Pair(NamedTuple):
    """A directory in both generations; 0 where it is not there."""

    old: int
    new: int
    prefix: bytes
    related: bool
    """Whether one generation was built upon the other, so that equal numbers mean something."""


def compare(old: LmdbIndex, new: LmdbIndex) -> Iterator[Change]:
    """Every difference, in index order, parents before what is below them. Memory: a run per level."""
    related = old.info().checksum in new.ancestors
    stack = [_compare_directories(old, new, _Pair(ROOT_INODE, ROOT_INODE, b"", related))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        elif isinstance(found, _Pair):
            stack.append(_compare_directories(old, new, found))
        else:
            yield found


def _compare_directories(old: LmdbIndex, new: LmdbIndex, pair: _Pair) -> Iterator[Change | _Pair]:
    before = _rows(old, pair.old) if pair.old else iter(())
    after = _rows(new, pair.new) if pair.new else iter(())
    left, right = next(before, None), next(after, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[:2] < right[:2]):
            yield from _one_sided(ChangeKind.GONE, left, pair)
            left = next(before, None)
        elif left is None or right[:2] < left[:2]:
            yield from _one_sided(ChangeKind.ADDED, right, pair)
            right = next(after, None)
        else:
            if right.content is None:
                yield _Pair(left.ino, right.ino, pair.prefix + right.name + b"/", pair.related)
            elif left[3:] != right[3:] or (pair.related and left.ino != right.ino):
                path = pair.prefix + right.name
                differs = left.content != right.content or (pair.related and left.ino != right.ino)
                yield Change(ChangeKind.CHANGED, path, right.ino, pair.new, right.name, False, differs)
            left, right = next(before, None), next(after, None)


def _one_sided(kind: ChangeKind, row: _Row | None, pair: _Pair) -> Iterator[Change | _Pair]:
    if row is None:
        return
    path, directory = pair.prefix + row.name, row.content is None
    parent = pair.new or pair.old
    yield Change(kind, path, row.ino, parent, row.name, directory, True)
    if directory:
        old, new = (row.ino, 0) if kind is ChangeKind.GONE else (0, row.ino)
        yield _Pair(old, new, path + b"/", pair.related)


def _rows(index: LmdbIndex, directory: int) -> Iterator[_Row]:
    """A directory's rows by sort key and name."""
    for run in index.runs_of(directory):
        sort_keys = run.sort_keys()
        contents: list[Content | None] = list(contents_of(index, run))
        rest = zip(run.mtimes_ns(), index.label_texts(run.cold().labels()), strict=True)
        if run.flags & HAS_DIRECTORIES:
            for row, key in enumerate(sort_keys):
                if key.endswith(b"/"):
                    contents[row] = None
        rows = list(map(_Row, sort_keys, row_names(run), run.inos(), contents, rest))
        if len(set(sort_keys)) < len(sort_keys):
            rows.sort(key=lambda row: row[:2])  # objects of one path stand in order of their identity
        yield from rows
