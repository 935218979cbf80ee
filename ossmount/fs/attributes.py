"""A directory's children, column by column, whatever the index offers. Pure.

An index may offer ``listing`` (columns as stored) beside ``children`` (a value per child): listing a
directory of 100,000 files is then bound by the kernel and not by Python objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ossmount.model import Child
from ossmount.protocols import Index


class Listing(Protocol):
    """Some children of a directory; columns of equal length, units as in ``Attributes``."""

    @property
    def names(self) -> Sequence[bytes]: ...  # noqa: D102 - described by the class
    @property
    def inos(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def kinds(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def sizes(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def mtimes_ns(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def links(self) -> Sequence[int]: ...  # noqa: D102


@runtime_checkable
class ColumnIndex(Protocol):
    """What an index offers that keeps its directories in columns."""

    def listing(self, ino: int, after: int = 0) -> Iterable[Listing]:
        """As ``Index.children``, in columns."""
        ...


@dataclass(frozen=True, slots=True)
class ListingColumns:
    """A listing made from children."""

    names: Sequence[bytes]
    inos: Sequence[int]
    kinds: Sequence[int]
    sizes: Sequence[int]
    mtimes_ns: Sequence[int]
    links: Sequence[int]

    @classmethod
    def of(cls, children: Sequence[Child]) -> ListingColumns:
        """The columns of ``children``."""
        rows = [child.attributes for child in children]
        return cls(
            names=[child.name for child in children],
            inos=[row.ino for row in rows],
            kinds=[row.kind for row in rows],
            sizes=[row.size for row in rows],
            mtimes_ns=[row.mtime_ns for row in rows],
            links=[row.links for row in rows],
        )


def listing_of(index: Index, ino: int, after: int) -> Iterator[Listing]:
    """The children of ``ino`` behind ``after``. Raises NoSuchEntry, NotADirectory at the first step."""
    if isinstance(index, ColumnIndex):
        yield from index.listing(ino, after)
    else:
        yield from map(ListingColumns.of, index.children(ino, after))
