"""What is thrown away of what was kept, and when: derived indexes on this disk, parts of artefacts.

What may live here: the rules. Who may touch it: whoever changes one, with docs/views.md and
docs/index-artefact.md. Only what can be had again without listing a source is ever removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ossmount.protocols import ObjectStore

if TYPE_CHECKING:
    from ossmount.stores.uploading import ObjectUploader

UNUSED_SECONDS = 30 * 86400.0
"""Derived and pulled indexes that no mount has asked for so long are removed when another is made: a data set
that is trained on now and then is not derived again each time, one of last season does not fill the disk."""

PUSHED_SECONDS = 86400.0
"""Parts that are younger stay, whatever names them: another host may be about to publish them."""


def note_use(path: Path) -> None:
    """Somebody mounts the index at ``path``: it counts as new. A directory that is not ours is no error."""
    with suppress(OSError):
        os.utime(path)


def remove_older(folder: Path, pattern: str, seconds: float) -> None:
    """Removes files in ``folder`` whose time is more than ``seconds`` ago.

    Mounts hold their index open: one that is removed goes on (docs/generations.md).
    """
    limit = time.time() - seconds
    for path in folder.glob(pattern):
        with suppress(OSError):
            if path.stat().st_mtime < limit:
                path.unlink()


def remove_parts(store: ObjectStore, uploader: ObjectUploader, prefix: str, keep: Collection[str]) -> int:
    """Removes objects below ``prefix`` that are not in ``keep`` and not of the last day; how many they were.

    Raises StoreError.
    """
    limit_ns = (time.time() - PUSHED_SECONDS) * 1e9
    old = [
        key
        for page in store.list(prefix)
        for key, modified_ns in zip(page.keys, page.mtimes_ns, strict=True)
        if key not in keep and modified_ns < limit_ns
    ]
    for key in old:
        uploader.delete(key)
    return len(old)
