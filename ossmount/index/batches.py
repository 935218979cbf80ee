"""Batches as the room works on them: plain lists.

What may live here: the change of form between :class:`EntryBatch` and lists. Who may touch it: whoever
adds a column to EntryBatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ossmount.errors import SourceError
from ossmount.model import EntryBatch


@dataclass(slots=True)
class Columns:
    """A batch as plain lists, with extents only where they say something."""

    paths: list[bytes]
    stores: Sequence[str]
    keys: list[str]
    sizes: list[int]
    etags: list[str]
    mtimes: list[int]
    labels: list[str | None] | None
    offsets: list[int] | None
    lengths: list[int] | None

    @classmethod
    def of(cls, batch: EntryBatch) -> Columns:
        """The batch's columns."""
        sizes = as_list(batch.sizes)
        offsets = as_list(batch.offsets) if batch.offsets is not None else None
        lengths = as_list(batch.lengths) if batch.lengths is not None else None
        if (offsets is None or not any(offsets)) and (lengths is None or lengths == sizes):
            offsets = lengths = None
        elif offsets is None or lengths is None:
            offsets = offsets if offsets is not None else [0] * len(sizes)
            lengths = lengths if lengths is not None else sizes
        return cls(
            as_list(batch.paths), batch.stores, as_list(batch.keys), sizes, as_list(batch.etags),
            as_list(batch.mtimes_ns), as_list(batch.labels) if batch.labels is not None else None,
            offsets, lengths,
        )  # fmt: skip

    def check_sizes(self) -> None:
        """Raises SourceError for a size that cannot be one."""
        smallest = min(self.sizes)
        if smallest < 0:
            row = self.sizes.index(smallest)
            raise SourceError(f"object {self.keys[row]!r} has the size {smallest}", "correct the source")


def as_list(column: Sequence[Any]) -> list[Any]:
    """The column as a list of Python values; arrays of numpy and arrow know ``tolist``."""
    if isinstance(column, list):
        return column
    return column.tolist() if hasattr(column, "tolist") else list(column)
