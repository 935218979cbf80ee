"""The labels layout and what a label may be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ossmount.errors import EmptySource
from ossmount.model import Entry, EntryBatch, Extent, ObjectId
from ossmount.protocols import Report, Source
from ossmount.sources import LabelsLayout
from ossmount.sources.labels import label_fault


def entry(path: str, label: str | None) -> Entry:
    return Entry(path.encode(), Extent(ObjectId("s3://b", path, "e", 3), 0, 3), label, 7)


class Fixed:
    description = "fixed"
    sorted = True

    def __init__(self, *entries: Entry) -> None:
        self._entries = entries

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        del report
        yield EntryBatch.of(self._entries)


def read(source: Source) -> list[Entry]:
    return [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]


def test_paths_become_label_and_name() -> None:
    given = [entry("x/1/a.jpg", "cat"), entry("x/2/a.jpg", "cat"), entry("b", None), entry("x/", "dog")]
    layout = LabelsLayout(Fixed(*given))
    assert [e.path for e in read(layout)] == [b"cat/a.jpg", b"cat/a.jpg", b"_unlabelled/b"]
    assert read(layout)[1] == given[1]._replace(path=b"cat/a.jpg")
    assert (layout.description, layout.sorted) == ("fixed", False)


def test_unlabelled_may_be_left_out() -> None:
    given = [entry("a", "cat"), entry("b", None)]
    assert [e.path for e in read(LabelsLayout(Fixed(*given), keep_unlabelled=False))] == [b"cat/a"]
    with pytest.raises(EmptySource, match="no entry of fixed has a label"):
        read(LabelsLayout(Fixed(given[1]), keep_unlabelled=False))


@pytest.mark.parametrize("label", ["", " ", "a/b", "a\0", ".", "..", "é" * 128])
def test_no_labels(label: str) -> None:
    assert label_fault(label)


@pytest.mark.parametrize("label", ["cat", "golden retriever", "é" * 127, "...", "_unlabelled"])
def test_labels(label: str) -> None:
    assert label_fault(label) is None
