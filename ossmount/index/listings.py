"""Whole runs as the tree shows them: columns of a listing, files in chunks.

What may live here: what is made of an opened run; no LMDB. Who may touch it: whoever changes what a listing
costs (200,000 names a second and more, see docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from ossmount.index.layout import HAS_DIRECTORIES, HAS_FILES
from ossmount.index.runs import Run
from ossmount.model import FileRef, Kind, Listing

_file_ref = partial(tuple.__new__, FileRef)


def row_names(run: Run) -> list[bytes]:
    """The names of a run's rows as the tree shows them."""
    found = run.sort_keys()
    if run.flags & HAS_DIRECTORIES:
        found = [name[:-1] if name.endswith(b"/") else name for name in found]
    for row, name in run.displays().items():
        found[row] = name
    return found


def listing_of(run: Run, start: int) -> Listing:
    """The columns of a run from row ``start``."""
    names, inos, mtimes = row_names(run), run.inos(), run.mtimes_ns()
    count = run.count
    if not run.flags & HAS_DIRECTORIES:
        kinds, sizes, links = [Kind.FILE] * count, run.lengths(), [1] * count
    elif not run.flags & HAS_FILES:
        kinds, sizes, links = [Kind.DIRECTORY] * count, [0] * count, run.sizes()
    else:
        below = [key.endswith(b"/") for key in run.sort_keys()]
        kinds = [Kind.DIRECTORY if d else Kind.FILE for d in below]
        sizes = [0 if d else size for d, size in zip(below, run.lengths(), strict=True)]
        links = [size if d else 1 for d, size in zip(below, run.sizes(), strict=True)]
    if start:
        return Listing(
            names[start:], inos[start:], kinds[start:], sizes[start:], mtimes[start:], links[start:]
        )
    return Listing(names, inos, kinds, sizes, mtimes, links)


def pieces_of(runs: Iterator[tuple[Run, int]]) -> Iterator[int | Sequence[FileRef]]:
    """Files of a directory in chunks, and between them the numbers of its subdirectories."""
    for run, start in runs:
        inos, lengths = run.inos()[start:], run.lengths()[start:]
        if not run.flags & HAS_DIRECTORIES:
            yield list(map(_file_ref, zip(inos, lengths, strict=True)))
            continue
        first = 0
        for i, key in enumerate(run.sort_keys()[start:]):
            if key.endswith(b"/"):
                if first < i:
                    yield list(map(_file_ref, zip(inos[first:i], lengths[first:i], strict=True)))
                yield inos[i]
                first = i + 1
        if first < len(inos):
            yield list(map(_file_ref, zip(inos[first:], lengths[first:], strict=True)))
