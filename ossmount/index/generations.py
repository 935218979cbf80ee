"""What a build takes over from the previous generation: inode numbers of unchanged paths.

What may live here: look-ups in the previous index in the order of a build. Who may touch it: whoever
changes how generations follow each other (SEMANTICS, Consistency).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ossmount.index import names
from ossmount.index.listings import row_names
from ossmount.index.reading import LmdbIndex
from ossmount.index.rows import Rows
from ossmount.index.runs import Run
from ossmount.model import Kind

Content = tuple[str, str, str, int, int, int, int]
"""Store, key, entity tag, size, offset, length, and the time where there is no entity tag."""


class PreviousTree:
    """The previous generation as a builder sees it."""

    def __init__(self, index: LmdbIndex) -> None:
        self._index = index
        self.next_ino: int = index.meta["next_ino"]

    def directory(self, parent: int, name: bytes) -> int:
        """The number of the directory ``name`` in ``parent``, 0 where there was none."""
        found = self._index.lookup(parent, name)
        return found.ino if found is not None and found.kind is Kind.DIRECTORY else 0

    def unchanged(self, directory: int, rows: Rows, stores: Sequence[str]) -> dict[int, int]:
        """Numbers by row of the files in ``rows`` that ``directory`` had under the same name.

        A directory of the same name that comes or goes, or is only met later in the build, does not count:
        it gives a file another name, but makes it no other file. A file whose content is another one is not
        the same: its new number keeps bytes of two versions apart, whatever the kernel still holds of the
        old one. ``stores`` are the texts of ``rows.stores``.
        """
        wanted = {
            _name_alone(sort_key, rows.displays.get(row, sort_key)): row
            for row, sort_key in enumerate(rows.sort_keys)
            if not sort_key.endswith(b"/")
        }
        contents = list(_contents_of_rows(rows, stores))
        known: dict[int, int] = {}
        for run in self._index.runs_between(directory, rows.sort_keys[0], rows.sort_keys[-1]):
            for sort_key, name, ino, content in self._files(run):
                row = None if sort_key.endswith(b"/") else wanted.get(_name_alone(sort_key, name))
                if row is not None and contents[row] == content:
                    known[row] = ino
        return known

    def _files(self, run: Run) -> Iterator[tuple[bytes, bytes, int, Content]]:
        return zip(run.sort_keys(), row_names(run), run.inos(), contents_of(self._index, run), strict=True)


def _name_alone(sort_key: bytes, name: bytes) -> bytes:
    """``name``, without what it has only because a directory stands beside the file."""
    if name == sort_key or name != names.beside_directory(sort_key):
        return name
    return names.fit(names.escape(sort_key))


def contents_of(index: LmdbIndex, run: Run) -> Iterator[Content]:
    """What makes each row of ``run`` the file that it is; a directory's means nothing."""
    cold = run.cold()
    etags, stores = cold.etags(), index.store_uris(cold.stores())
    times = [0 if etag else mtime for etag, mtime in zip(etags, run.mtimes_ns(), strict=True)]
    return zip(stores, cold.keys(), etags, run.sizes(), cold.offsets(), cold.lengths(), times, strict=True)


def _contents_of_rows(rows: Rows, stores: Sequence[str]) -> Iterator[Content]:
    uris = [stores[number] for number in rows.stores] if stores else [""] * len(rows.stores)
    times = [0 if etag else mtime for etag, mtime in zip(rows.etags, rows.mtimes_ns, strict=True)]
    offsets = rows.offsets if rows.offsets is not None else [0] * len(rows.sizes)
    lengths = rows.lengths if rows.lengths is not None else rows.sizes
    return zip(uris, rows.keys, rows.etags, rows.sizes, offsets, lengths, times, strict=True)
