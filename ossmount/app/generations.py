"""The next generation of an index: built beside the old one, compared with it, put in its place in one step.

What may live here: what ``ossmount index refresh`` and the refresh of a live mount share. Who may touch
it: whoever changes what a refresh promises (docs/generations.md). Nothing here is called in a supervisor's
process: indexes and stores are opened.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ossmount import index
from ossmount.app.cache_place import cache_directory
from ossmount.app.indexes import build_index
from ossmount.app.recipe import from_recipe
from ossmount.app.views import parts_of
from ossmount.config import Settings
from ossmount.errors import IndexFileError, SettingsError
from ossmount.index import Change, ChangeKind, LmdbIndex
from ossmount.places import is_still
from ossmount.protocols import Report

Note = Callable[[Change], None]
"""Receives every change, in index order."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh found. ``generation`` is the index's now; equal to ``previous``: nothing changed."""

    index: str
    previous: int
    generation: int
    checksum: str
    files: int
    added: int
    changed: int
    gone: int
    seconds: float

    @property
    def is_new(self) -> bool:
        """Whether there is another generation than before."""
        return self.generation != self.previous


class Tally:
    """Counts changes of files, and passes every change on."""

    def __init__(self, note: Note | None) -> None:
        self.counts = dict.fromkeys(ChangeKind, 0)
        self.total = 0
        self._note = note or (lambda _: None)

    def add(self, change: Change) -> None:
        """One more."""
        self.total += 1
        if not change.directory:
            self.counts[change.kind] += 1
        self._note(change)


def refresh_index(
    path: Path, settings: Settings, report: Report, note: Note | None = None, mounted: Path | None = None
) -> Refreshed:
    """Brings the index at ``path`` up to date with its source; nothing is touched where that fails.

    Readers of the old file go on with it. Without a change the file stays as it is. ``note`` receives what
    changed since the old generation, or since ``mounted``, the file that a live mount serves: it may
    be older than what stands at ``path``, or not be there any more. Inode numbers go on from what is mounted.

    Raises SettingsError (the index does not tell its source), SourceError, StoreError, IndexFileError.
    """
    began = time.monotonic()
    _check_own(path, settings)
    with ExitStack() as stack:
        before = stack.enter_context(index.open_index(mounted or path))
        stack.enter_context(_alone(path))
        base = stack.enter_context(_descendant(before, path)) if mounted else before
        recipe = before.info().options
        uris, complete = from_recipe(recipe, settings, str(path))
        _refresh_bases(uris, settings, report)
        new = stack.enter_context(_next_generation(base, path, uris, complete, report))
        tally = Tally(note)
        for change in index.compare(before, new):
            tally.add(change)
        info = new.info()
    counts = tally.counts
    return Refreshed(
        index=str(path),
        previous=before.info().generation,
        generation=info.generation if tally.total else before.info().generation,
        checksum=info.checksum,
        files=info.files,
        added=counts[ChangeKind.ADDED],
        changed=counts[ChangeKind.CHANGED],
        gone=counts[ChangeKind.GONE],
        seconds=time.monotonic() - began,
    )


def _refresh_bases(uris: list[str], settings: Settings, report: Report) -> None:
    """A view is made of other indexes: they are brought up to date first."""
    for part in parts_of(uris):
        if part.file is not None:
            refresh_index(part.file.absolute(), settings, report)


def _check_own(path: Path, settings: Settings) -> None:
    """Raises SettingsError where no local files may be opened and this one is not a mount's own."""
    if settings.store.local_files:
        return
    kept = cache_directory(settings.cache) / "indexes"
    if not path.resolve().is_relative_to(kept.resolve()):
        raise SettingsError(
            f"{path} may not be replaced here (--no-local-files)",
            "refresh it where it was made, without that",
        )


@contextlib.contextmanager
def _next_generation(
    base: LmdbIndex, path: Path, uris: list[str], settings: Settings, report: Report
) -> Iterator[LmdbIndex]:
    """The tree as the source is now: a new file at ``path``, or ``base`` itself where nothing changed."""
    with index.reserved(path) as beside:
        build_index(uris, beside, settings, report, previous=base)
        with index.open_index(beside) as new:
            if next(index.compare(base, new), None) is None:
                yield base
            else:
                beside.replace(path)
                yield new


@contextlib.contextmanager
def _descendant(mounted: LmdbIndex, path: Path) -> Iterator[LmdbIndex]:
    """The index at ``path`` if it was built upon ``mounted``, else ``mounted``.

    Any other index may have given the same inode numbers to other files, so no mount can go over to it.
    """
    found = _opened_beside(mounted, path)
    if found is None:
        yield mounted
        return
    with found:
        yield found if mounted.info().checksum in found.ancestors else mounted


def _opened_beside(mounted: LmdbIndex, path: Path) -> LmdbIndex | None:
    """The index at ``path``; None where it is the same or cannot be used. LMDB opens no file twice."""
    try:
        return None if path.samefile(mounted.path) else index.open_index(path)
    except (IndexFileError, OSError):
        return None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One refresh of an index at a time: two would build two generations of the same number."""
    try:
        descriptor = _opened(path)
    except OSError:
        yield  # gone: what is mounted is all there is
        return
    try:
        if not _locked(descriptor, path):
            raise IndexFileError(f"{path} is being refreshed by another process", "wait until that has ended")
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> bool:
    """Locks the file; False where somebody else holds the lock, or has just replaced the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks: then nothing tells of another refresh
    try:
        return is_still(descriptor, path)
    except OSError:
        return False


def _opened(path: Path) -> int:
    """For writing, if that is allowed, though nothing is written: NFS gives exclusive locks to no others."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
