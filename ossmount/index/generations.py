"""What a build takes over from the previous generation: inode numbers of unchanged paths.

What may live here: look-ups in the previous index in the order of a build. Who may touch it: whoever
changes how generations follow each other (SEMANTICS, Consistency).
"""

from __future__ import annotations

from ossmount.index.reading import LmdbIndex, row_names
from ossmount.model import Kind


class PreviousTree:
    """The previous generation as a builder sees it."""

    def __init__(self, index: LmdbIndex) -> None:
        self._index = index
        self.next_ino: int = index.meta["next_ino"]

    def directory(self, parent: int, name: bytes) -> int:
        """The number of the directory ``name`` in ``parent``, 0 where there was none."""
        found = self._index.lookup(parent, name)
        return found.ino if found is not None and found.kind is Kind.DIRECTORY else 0

    def files_between(self, directory: int, first: bytes, last: bytes) -> dict[bytes, int]:
        """Numbers by name of the files whose sort keys lie between ``first`` and ``last``."""
        known: dict[bytes, int] = {}
        for run in self._index.runs_between(directory, first, last):
            known.update(zip(row_names(run), run.inos(), strict=True))
        return known
