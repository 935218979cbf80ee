"""What a label may be."""

from __future__ import annotations

import pytest

from ossmount.sources.labels import label_fault


@pytest.mark.parametrize("label", ["", " ", "a/b", "a\0", ".", "..", "é" * 128, "a\ud800"])
def test_no_labels(label: str) -> None:
    assert label_fault(label)


@pytest.mark.parametrize("label", ["cat", "golden retriever", "é" * 127, "...", "_unlabelled", "\udcff"])
def test_labels(label: str) -> None:
    assert label_fault(label) is None
