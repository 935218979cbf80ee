"""Rows of one directory on their way into a run.

What may live here: the columns that wait, and what can be told of them alone. Who may touch it: whoever adds
a column to a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ossmount.errors import TwoSizes
from ossmount.index.batches import Columns


@dataclass(slots=True)
class Pending:
    """Rows of one directory that wait for their run."""

    sort_keys: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    mtimes: list[int] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    etags: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    offsets: list[int] | None = None
    lengths: list[int] | None = None
    directory_inos: list[int] = field(default_factory=list)

    def add_files(self, found: list[bytes], columns: Columns, start: int, end: int) -> None:
        """Appends rows ``start`` to ``end`` of a batch under the names ``found``."""
        if columns.offsets is not None and columns.lengths is not None:
            if self.offsets is None or self.lengths is None:
                self.offsets, self.lengths = [0] * len(self.sizes), self.sizes.copy()
            self.offsets += columns.offsets[start:end]
            self.lengths += columns.lengths[start:end]
        elif self.offsets is not None and self.lengths is not None:
            self.offsets += [0] * len(found)
            self.lengths += columns.sizes[start:end]
        self.sort_keys += found
        self.sizes += columns.sizes[start:end]
        self.mtimes += columns.mtimes[start:end]
        self.stores += columns.stores[start:end]
        self.keys += columns.keys[start:end]
        self.etags += columns.etags[start:end]
        self.labels += columns.labels[start:end] if columns.labels is not None else [None] * len(found)

    def add_directory(self, sort_key: bytes, ino: int) -> None:
        """Appends a subdirectory whose totals are not known yet."""
        self.sort_keys.append(sort_key)
        self.directory_inos.append(ino)
        for texts in (self.stores, self.keys, self.etags):
            texts.append("")
        self.labels.append(None)
        self.sizes.append(0)
        self.mtimes.append(0)
        if self.offsets is not None and self.lengths is not None:
            self.offsets.append(0)
            self.lengths.append(0)

    def close_directory(self, links: int, newest: int) -> None:
        """Completes the subdirectory that was added last."""
        self.sizes[-1], self.mtimes[-1] = links, newest

    def slice(self, start: int, end: int) -> Pending:
        """Rows ``start`` to ``end``; directories are taken from the front, so call it in order."""
        sort_keys = self.sort_keys[start:end]
        count = sum(key.endswith(b"/") for key in sort_keys) if self.directory_inos else 0
        inos, self.directory_inos = self.directory_inos[:count], self.directory_inos[count:]
        return Pending(
            sort_keys, self.sizes[start:end], self.mtimes[start:end], self.stores[start:end],
            self.keys[start:end], self.etags[start:end], self.labels[start:end],
            self.offsets[start:end] if self.offsets is not None else None,
            self.lengths[start:end] if self.lengths is not None else None, inos,
        )  # fmt: skip

    def drop(self, count: int) -> None:
        """Forgets the first rows."""
        if not count:
            return
        for column in (
            self.sort_keys,
            self.sizes,
            self.mtimes,
            self.stores,
            self.keys,
            self.etags,
            self.labels,
        ):
            del column[:count]
        if self.offsets is not None and self.lengths is not None:
            del self.offsets[:count], self.lengths[:count]
        if not self.sort_keys:
            self.offsets = self.lengths = None

    def keep(self, rows: list[int]) -> None:
        """Keeps only ``rows``, in that order."""
        self.sort_keys = [self.sort_keys[i] for i in rows]
        self.sizes = [self.sizes[i] for i in rows]
        self.mtimes = [self.mtimes[i] for i in rows]
        self.stores = [self.stores[i] for i in rows]
        self.keys = [self.keys[i] for i in rows]
        self.etags = [self.etags[i] for i in rows]
        self.labels = [self.labels[i] for i in rows]
        if self.offsets is not None and self.lengths is not None:
            self.offsets = [self.offsets[i] for i in rows]
            self.lengths = [self.lengths[i] for i in rows]

    def identity(self, row: int) -> tuple[str, str, int, int, str, int, str]:
        """What makes two rows of one path the same file; also their order."""
        offset = self.offsets[row] if self.offsets is not None else 0
        length = self.lengths[row] if self.lengths is not None else self.sizes[row]
        label = self.labels[row]
        return (
            self.stores[row], self.keys[row], offset, length, self.etags[row], self.sizes[row],
            "" if label is None else "=" + label,
        )  # fmt: skip

    def check_sizes(self, rows: range) -> None:
        """Raises TwoSizes where ``rows`` name one object with different sizes."""
        sizes: dict[tuple[str, str], int] = {}
        for row in rows:
            size = self.sizes[row]
            other = sizes.setdefault((self.stores[row], self.keys[row]), size)
            if other != size:
                raise TwoSizes(self.stores[row], self.keys[row], (other, size))
