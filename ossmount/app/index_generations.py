"""What the commands about generations do, for index files and for live mounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ossmount.app import artefacts, generations
from ossmount.app.artefacts import Pushed
from ossmount.app.cache_place import cache_directory
from ossmount.app.changes import ChangedPath, row_of
from ossmount.app.control import ControlClient
from ossmount.app.generations import Refreshed
from ossmount.app.indexes import PARTS
from ossmount.app.runtime import RefreshState, read_record, runtime_directory
from ossmount.app.verifying import Difference, Verified, verify_index
from ossmount.config import Settings
from ossmount.errors import IndexFileError, MountError, decode_error
from ossmount.fuse.mountpoint import resolve
from ossmount.model import IndexInfo
from ossmount.places import is_directory, is_missing
from ossmount.protocols import Report


def refresh_index(
    path: str, settings: Settings, report: Report, note: Callable[[ChangedPath], None]
) -> Refreshed:
    """Brings the index up to date with its source; ``note`` receives every change. Raises OssmountError."""
    return generations.refresh_index(
        Path(path).absolute(), settings, report, lambda change: note(row_of(change))
    )


def push_index(path: str, uri: str, settings: Settings, report: Report, *, prune: bool) -> Pushed:
    """Publishes an index. Raises OssmountError."""
    return artefacts.push_index(Path(path), uri, settings, report, prune=prune)


def pull_index(uri: str, path: str, settings: Settings, report: Report) -> IndexInfo:
    """Fetches a published index to ``path``. Raises OssmountError."""
    parts = cache_directory(settings.cache) / PARTS
    return artefacts.pull_index(uri, Path(path).absolute(), settings, report, parts)


def verify(
    target: str, settings: Settings, report: Report, note: Callable[[Difference], None], *, contents: bool
) -> Verified:
    """Compares an index, or the one that the mount at a directory serves, with its source.

    Raises OssmountError.
    """
    path = Path(target)
    record = read_record(str(resolve(path)))  # before any look at the path: a mount may not answer
    if record is not None:
        path = record.file
    elif is_missing(path) or is_directory(path):
        raise IndexFileError(
            f"{target} is neither an index nor an ossmount mount", "see 'ossmount list' for what is mounted"
        )
    return verify_index(path, settings, report, note, contents=contents)


LOOK_SECONDS = 0.05
"""Between looks at how far a mount's refresh is."""

ASK_SECONDS = 1.0
"""Between questions whether the mount lives: one whose supervisor was killed leaves its record behind."""


def refresh_mount(mountpoint: str) -> Mapping[str, Any]:
    """Has the mount go over to the next generation and waits until it has: the fields of Refreshed.

    Raises MountError where no mount answers, and what kept the mount from refreshing.
    """
    with ControlClient(mountpoint) as client:
        before = RefreshState.read(runtime_directory(client.mountpoint))
        client.refresh()
        outcome = _ended_after(before, client).outcome
    if "error" in outcome:
        raise decode_error(outcome["error"])
    found: Mapping[str, Any] = outcome["refreshed"]
    return found


def _ended_after(before: RefreshState, client: ControlClient) -> RefreshState:
    """The state once an attempt has ended that began after ``before``. Raises MountError."""
    directory = runtime_directory(client.mountpoint)
    asked = time.monotonic()
    while (state := RefreshState.read(directory)).finished <= before.started:
        if read_record(client.mountpoint) is None:
            raise MountError(f"{client.mountpoint} was unmounted meanwhile", "mount it again")
        if time.monotonic() - asked >= ASK_SECONDS:
            client.close()  # a silent client may have been cut off; a new connection tells who listens
            client.version()
            asked = time.monotonic()
        time.sleep(LOOK_SECONDS)
    return state
