"""Does the bucket still hold what an index promises? By listing, and where it is asked for by content.

What may live here: the comparison and its findings. Who may touch it: whoever verifies something else.
The source is read into an index in a temporary directory and the two are compared, so memory is bounded
and whatever shaped the tree (labels, escaped names) shapes both. Runs outside the supervisor: indexes and
stores are opened.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ossmount import index
from ossmount.app.indexes import build_index
from ossmount.app.recipe import from_recipe
from ossmount.app.views import parts_of
from ossmount.config import Settings
from ossmount.errors import ObjectChanged, ObjectMissing
from ossmount.index import Change, ChangeKind, LmdbIndex
from ossmount.model import ROOT_INODE, Extent, ObjectId, Progress
from ossmount.protocols import Report
from ossmount.stores import StorePool
from ossmount.uris import shown_object

AT_ONCE = 32
"""Objects read at once under ``--contents``: saturates a network from 1 MiB objects on."""

PIECE = 8 << 20
"""Bytes per GET of a large object's content; one connection gives some 90 MB/s (FACTS)."""

_MD5 = re.compile(r"[0-9a-fA-F]{32}")


class Difference(NamedTuple):
    """Something that is not as the index says. ``what`` is one of the words of docs/generations.md."""

    what: str
    path: bytes
    detail: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification looked at. ``unproved`` contents have an ETag that is no MD5, and were not read."""

    files: int
    differences: int
    contents: int
    unproved: int


Note = Callable[[Difference], None]


def verify_index(path: Path, settings: Settings, report: Report, note: Note, *, contents: bool) -> Verified:
    """Compares the index at ``path`` with its source; ``note`` receives every difference.

    Sizes, entity tags and names by listing the source again; with ``contents`` also the MD5 of every object
    whose ETag is one. Raises IndexFileError (a damaged index is told before anything is listed),
    SettingsError, SourceError, StoreError. A view is right where the indexes are that it is made of: those
    are compared.
    """
    with index.open_index(path) as promised:
        promised.verify()
        uris, complete = from_recipe(promised.info().options, settings, str(path))
        bases = [part.file for part in parts_of(uris) if part.file is not None]
        if bases:
            found = [verify_index(base, settings, report, note, contents=contents) for base in bases]
            return Verified(*map(sum, zip(*map(astuple, found), strict=True)))
        count = 0
        with TemporaryDirectory(prefix="ossmount-verify-") as folder:
            now = Path(folder) / "now.ossidx"
            build_index(uris, now, complete, report, previous=promised)
            with index.open_index(now) as actual:
                for change in index.compare(promised, actual):
                    for difference in _differences(change, promised, actual):
                        count += 1
                        note(difference)
        objects = _Contents(promised, complete, report, note)
        if contents:
            objects.check()
    return Verified(promised.info().files, count + objects.wrong, objects.read, objects.unproved)


def _differences(change: Change, promised: LmdbIndex, actual: LmdbIndex) -> Iterator[Difference]:
    """Changes of files, but for those of which only time or label are new: that is no other content."""
    if change.directory:
        return
    if change.kind is ChangeKind.GONE:
        yield Difference("missing", change.path, "in the index, not in the source")
    elif change.kind is ChangeKind.ADDED:
        yield Difference("unknown", change.path, "in the source, not in the index")
    elif change.content:
        before = promised.extent(promised.resolve(change.path))
        yield _changed(change.path, before, actual.extent(change.ino))


def _changed(path: bytes, before: Extent, after: Extent) -> Difference:
    if before.object.size != after.object.size:
        return Difference("size", path, f"{before.object.size} in the index, {after.object.size} now")
    if before.object.etag != after.object.etag:
        return Difference("etag", path, f"{before.object.etag} in the index, {after.object.etag} now")
    if before == after:
        return Difference("time", path, "written anew; this store has no ETag that tells more")
    place = shown_object(after.object.store, after.object.key)
    return Difference("object", path, f"now {place}, {after.length} bytes from {after.offset}")


class _Contents:
    """Reads objects and compares their MD5 with their ETag."""

    def __init__(self, promised: LmdbIndex, settings: Settings, report: Report, note: Note) -> None:
        self._index, self._report, self._note = promised, report, note
        self._pool = StorePool(settings.store)
        self._total = promised.info().files
        self.read = self.unproved = self.wrong = 0

    def check(self) -> None:
        """Every file of the index."""
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                waiting: list[tuple[int, Future[str | None]]] = []
                for chunk in self._index.files(ROOT_INODE):
                    for ref in chunk:
                        extent = self._index.extent(ref.ino)
                        waiting.append((ref.ino, pool.submit(self._fault, extent.object)))
                        if len(waiting) >= 2 * AT_ONCE:
                            self._take(*waiting.pop(0))
                for ino, future in waiting:
                    self._take(ino, future)
        finally:
            self._pool.close()

    def _take(self, ino: int, future: Future[str | None]) -> None:
        fault = future.result()
        self.unproved += fault is None
        self.read += fault is not None
        self._report(Progress("reading", self.read + self.unproved, self._total, "objects"))
        if fault:
            self.wrong += 1
            self._note(Difference("content", self._index.path_of(ino), fault))

    def _fault(self, target: ObjectId) -> str | None:
        """What is wrong with the object's content, "" for nothing, None where the ETag is no MD5."""
        if _MD5.fullmatch(target.etag) is None:
            return None
        digest = hashlib.md5(usedforsecurity=False)
        store = self._pool(target.store)
        try:
            for start in range(0, target.size, PIECE):
                digest.update(store.get_range(target, start, min(PIECE, target.size - start)))
        except (ObjectChanged, ObjectMissing) as error:
            return error.message
        found = digest.hexdigest()
        if found == target.etag.lower():
            return ""
        return (
            f"its MD5 is {found}, its ETag {target.etag.lower()}, which is no MD5 if SSE-KMS or SSE-C encrypt"
        )
