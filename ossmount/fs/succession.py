"""An index that still remembers the generation before it: for what programs have open across a swap.

Names and attributes are the new generation's alone. What is older: the content behind an inode number that
only the old generation has (a file that was open when it changed), and a position in a directory that was
being listed. Who may touch it: whoever changes what a swap promises to open handles (SEMANTICS).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ossmount.errors import NoSuchEntry
from ossmount.model import Attributes, Child, Extent, FileRef, IndexInfo, Listing
from ossmount.protocols import Index


class Succession:
    """``current``, and ``previous`` where a handle of it is still in use. An ``Index`` itself."""

    def __init__(self, current: Index, previous: Index) -> None:
        self._current, self._previous = current, previous

    def __repr__(self) -> str:
        return f"Succession({self._current!r}, after {self._previous!r})"

    def lookup(self, parent: int, name: bytes) -> Attributes | None:
        """See :class:`ossmount.protocols.Index`."""
        return self._current.lookup(parent, name)

    def attributes(self, ino: int) -> Attributes:
        """See :class:`ossmount.protocols.Index`."""
        return self._current.attributes(ino)

    def extent(self, ino: int) -> Extent:
        """Of the old generation where only that has the inode: its object may still be cached."""
        try:
            return self._current.extent(ino)
        except NoSuchEntry:
            return self._previous.extent(ino)

    def label(self, ino: int) -> str | None:
        """See :class:`ossmount.protocols.Index`."""
        return self._current.label(ino)

    def parent(self, ino: int) -> int:
        """See :class:`ossmount.protocols.Index`."""
        return self._current.parent(ino)

    def files(self, ino: int, after: int = 0) -> Iterator[Sequence[FileRef]]:
        """See :class:`ossmount.protocols.Index`."""
        return self._current.files(ino, after)

    def info(self) -> IndexInfo:
        """See :class:`ossmount.protocols.Index`."""
        return self._current.info()

    def close(self) -> None:
        """See :class:`ossmount.protocols.Index`."""
        self._current.close()
        self._previous.close()

    def children(self, ino: int, after: int = 0) -> Iterator[Sequence[Child]]:
        """See :class:`ossmount.protocols.Index`."""
        after, told = self._position(ino, after)
        for chunk in self._current.children(ino, after):
            yield [child for child in chunk if child.name not in told] if told else chunk

    def listing(self, ino: int, after: int = 0) -> Iterator[Listing]:
        """See :class:`ossmount.protocols.Index`."""
        after, told = self._position(ino, after)
        for part in self._current.listing(ino, after):
            yield _without(part, told) if told else part

    def _position(self, directory: int, after: int) -> tuple[int, set[bytes]]:
        """``after``, or where it is gone the nearest child before it that stayed, and the names between."""
        if after == 0 or self._is_in(directory, after):
            return after, set()
        before: list[tuple[int, bytes]] = []
        for part in self._previous.listing(directory):
            before += zip(part.inos, part.names, strict=True)
            if after in part.inos:
                break
        else:
            return after, set()  # nobody's position: the current index says so
        del before[next(i for i, (ino, _) in enumerate(before) if ino == after) + 1 :]
        told: set[bytes] = set()
        while before and not self._is_in(directory, before[-1][0]):
            told.add(before.pop()[1])
        return (before[-1][0] if before else 0), told

    def _is_in(self, directory: int, ino: int) -> bool:
        try:
            return self._current.parent(ino) == directory
        except NoSuchEntry:
            return False


def _without(part: Listing, told: set[bytes]) -> Listing:
    keep = [row for row, name in enumerate(part.names) if name not in told]
    return Listing(
        names=[part.names[row] for row in keep],
        inos=[part.inos[row] for row in keep],
        kinds=[part.kinds[row] for row in keep],
        sizes=[part.sizes[row] for row in keep],
        mtimes_ns=[part.mtimes_ns[row] for row in keep],
        links=[part.links[row] for row in keep],
    )
