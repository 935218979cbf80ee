"""Which subtree programs read at present, and whether in order. Pure; asks the index only for parents.

Two observers of the stream of files that programs open: :class:`Order` votes whether a file follows
one that was read lately, :class:`Scope` finds the smallest directory that holds what is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from ossmount.model import ROOT_INODE, FileRef
from ossmount.protocols import Index

_STRIDE_BITS = 5
"""A file follows another if its number is up to 32 higher: parallel loaders read interleaved batches."""

_DISORDER = 8
"""… or up to 8 lower: threads that take files from one queue overtake each other."""

_HEADS = 16
"""Streams that are followed at once: DataLoader workers, each in a batch of its own."""

_WEIGHT = 0.125
"""Of the newest vote: eight files make up the mind."""

_IN_ORDER = 0.8
"""Share of following votes from which reading counts as sequential. Shuffled reading of a directory of
less than 500 files gives up to 0.72 by chance."""

SCOPE_READS = 3
"""Different files that are read before there is a scope: two say nothing about a third."""

SWITCH_READS = 4
"""Files read outside of the scope, beyond those inside, that make it change."""

SWITCH_PAUSE = 64
"""Files within which a second change widens the scope instead of moving it: two subtrees are in use."""

_REMEMBERED_DIRECTORIES = 1 << 16
"""Directories whose place is remembered; about 6 MB at most."""


class Order:
    """Whether files are opened in the order of their inode numbers, which is the order of the index."""

    def __init__(self) -> None:
        self._heads: OrderedDict[int, int] = OrderedDict()
        self._share = 0.5

    def __repr__(self) -> str:
        return f"Order({self._share:.2f})"

    @property
    def sequential(self) -> bool:
        """True when most files follow one that was opened lately."""
        return self._share >= _IN_ORDER

    def opened(self, ino: int) -> bool:
        """Takes note; True where ``ino`` follows."""
        bucket = ino >> _STRIDE_BITS
        heads = self._heads
        last = heads.get(bucket)
        if last is None:
            last = heads.get(bucket - 1)
        follows = last is not None and -_DISORDER <= ino - last <= 1 << _STRIDE_BITS
        self._share += _WEIGHT * (follows - self._share)
        heads[bucket] = ino
        heads.move_to_end(bucket)
        if len(heads) > _HEADS:
            heads.popitem(last=False)
        return follows


class Scope:
    """The subtree in use: ``directory`` is its inode, None before enough was read."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.directory: int | None = None
        self._outside: list[int] = []
        self._within: dict[int, bool] = {}
        self._since_switch = 0

    def __repr__(self) -> str:
        return f"Scope({self.directory}, {len(self._outside)} outside)"

    def opened(self, ino: int) -> bool:
        """Takes note of a file; True where it lies within the scope (which it may have changed)."""
        parent = self._index.parent(ino)
        self._since_switch += 1
        if self.directory is not None and self._holds(parent):
            if self._outside:
                self._outside.pop(0)
            return True
        self._outside.append(parent)
        enough = SCOPE_READS if self.directory is None else SWITCH_READS
        if len(self._outside) < enough:
            return False
        self._switch()
        return True

    def move(self, directory: int) -> None:
        """Sets the scope."""
        self.directory = directory
        self._within.clear()
        self._outside.clear()
        self._since_switch = 0

    def widen(self) -> bool:
        """Moves the scope to its parent; False at the root."""
        if self.directory is None or self.directory == ROOT_INODE:
            return False
        self.move(self._index.parent(self.directory))
        return True

    def _switch(self) -> None:
        directories = list(self._outside)
        if self.directory is not None and self._since_switch <= SWITCH_PAUSE:
            directories.append(self.directory)
        self.move(common_directory(self._index, directories))

    def _holds(self, directory: int) -> bool:
        held = self._within.get(directory)
        if held is None:
            if len(self._within) >= _REMEMBERED_DIRECTORIES:
                self._within.clear()
            held = self._within[directory] = self.directory in path_of(self._index, directory)
        return held


class Frontier:
    """Where planning stands in a directory: files come out in index order."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._files: Iterator[FileRef] = iter(())
        self.started = False
        self.directory = 0
        self.whole = False
        """True when it started at the directory's beginning."""
        self.last = 0
        """The file that came out last, 0 before the first."""

    def start(self, directory: int, after: int) -> None:
        """Goes on behind the file ``after`` (0: from the beginning) of ``directory``."""
        self.started, self.directory, self.whole, self.last = True, directory, after == 0, after
        self._files = chain.from_iterable(self._index.files(directory, after))

    def stop(self) -> None:
        """Forgets where it stood."""
        self.started = False
        self._files = iter(())

    def next(self) -> FileRef | None:
        """The next file; None at the end."""
        ref = next(self._files, None)
        if ref is not None:
            self.last = ref.ino
        return ref


def path_of(index: Index, directory: int) -> list[int]:
    """The inodes from ``directory`` up to the root, both included."""
    path = [directory]
    while path[-1] != ROOT_INODE:
        path.append(index.parent(path[-1]))
    return path


def common_directory(index: Index, directories: list[int]) -> int:
    """The lowest directory that holds all of ``directories`` (of which there is at least one)."""
    common = path_of(index, directories[0])
    for directory in set(directories[1:]):
        path = set(path_of(index, directory))
        while common[0] not in path:
            common.pop(0)
    return common[0]
