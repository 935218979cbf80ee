"""The tree's shape where it is not the keys' own: ``--layout labels``.

What may live here: transforms of batches that change paths. Who may touch it: whoever adds a layout.
"""

from __future__ import annotations

from collections.abc import Iterator

from ossmount.errors import EmptySource
from ossmount.model import Entry, EntryBatch
from ossmount.protocols import Report, Source
from ossmount.sources.labels import UNLABELLED


def labels_layout(batches: Iterator[EntryBatch], *, keep_unlabelled: bool = True) -> Iterator[EntryBatch]:
    """Paths become ``<label>/<file name>``; what has no label goes to ``_unlabelled/`` or is left out.

    Directory markers are left out: directories are the labels. Two files of one name under one label
    stay two entries of one path, which the index tells apart by a suffix.
    """
    for batch in batches:
        moved = [
            entry._replace(path=_labelled_path(entry))
            for entry in batch.entries()
            if not entry.path.endswith(b"/") and (keep_unlabelled or entry.label is not None)
        ]
        if moved:
            yield EntryBatch.of(moved)


def _labelled_path(entry: Entry) -> bytes:
    name = entry.path[entry.path.rfind(b"/") + 1 :]
    label = UNLABELLED if entry.label is None else entry.label
    return label.encode("utf-8", "surrogateescape") + b"/" + name


class LabelsLayout:
    """A source in the ``labels`` layout."""

    def __init__(self, source: Source, *, keep_unlabelled: bool = True) -> None:
        self._source = source
        self._keep_unlabelled = keep_unlabelled

    def __repr__(self) -> str:
        return f"LabelsLayout({self._source!r})"

    @property
    def description(self) -> str:
        """That of the source: the layout is an option of its own in the index."""
        return self._source.description

    @property
    def sorted(self) -> bool:
        """Never: labels come in any order."""
        return False

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """Raises EmptySource where nothing is left, besides what the source raises."""
        empty = True
        for batch in labels_layout(self._source.batches(report), keep_unlabelled=self._keep_unlabelled):
            empty = False
            yield batch
        if empty:
            raise EmptySource(
                f"no entry of {self.description} has a label",
                "give a manifest with labels, or use --unlabelled keep or --layout keys",
            )
