"""What the commands about generations of index files do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ossmount.app import generations
from ossmount.app.changes import ChangedPath, row_of
from ossmount.app.generations import Refreshed
from ossmount.config import Settings
from ossmount.protocols import Report


def refresh_index(
    path: str, settings: Settings, report: Report, note: Callable[[ChangedPath], None]
) -> Refreshed:
    """Brings the index up to date with its source; ``note`` receives every change. Raises OssmountError."""
    return generations.refresh_index(
        Path(path).absolute(), settings, report, lambda change: note(row_of(change))
    )
