"""Index files made of small trees on this disk. Touch it when tests need another kind of tree."""

from __future__ import annotations

from pathlib import Path

from ossmount.app.indexes import build_index
from ossmount.config import Settings
from ossmount.model import Progress


def silent(_: Progress) -> None:
    """A report for nobody."""


def numbered_tree(folder: Path, count: int) -> Path:
    """``count`` files in four classes: ``class0/000``, ``class1/001`` and so on."""
    for number in range(count):
        path = folder / f"class{number % 4}" / f"{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content %d" % number)
    return folder


def index_of(source: Path, path: Path) -> Path:
    """The index of everything below ``source``, at ``path``."""
    build_index([f"{source}/"], path, Settings(), silent)
    return path
