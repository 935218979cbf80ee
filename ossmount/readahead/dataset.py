"""Which files are wanted next: the data set planner. Pure: no I/O but index look-ups, no clock.

It is told what programs open, read and list, and asked with :meth:`DatasetPlanner.take` for files worth
fetching whenever there is room, so that a plan is never older than the moment it is carried out. The
window counts files that were planned and not opened yet. It grows with each file that confirms the
guess (slow start) and shrinks with each that does not. Fully planned, or fully cached, it is silent.

An *epoch* lasts until files come back as READs although they were delivered: then they have been
evicted, and planning starts over.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum

from ossmount.config import ReadaheadSettings
from ossmount.errors import FileSystemError
from ossmount.model import ROOT_INODE, FileRef
from ossmount.protocols import Index
from ossmount.readahead.inode_set import InodeSet
from ossmount.readahead.scope import SCOPE_READS, Frontier, Order, Scope

FIRST_WINDOW = 4
"""Files, once there is a scope."""

GROWTH, LISTED_GROWTH = 1.2, 1.4
"""Of the window with each confirming file; a program that listed the scope before is more likely to read
all of it. Ten reads plan at most 4 * 1.4^8 = 59 files; forty have a data set of thousands in flight."""

SHRINK = 0.7
"""Of the window with each file that contradicts the guess."""

FILES_PER_READ = 64
"""The window is at most so many times the files that programs really opened: to plan a million files
takes 16,000 reads, whatever the slow start says."""

COVERING_WINDOW = 256
"""Files: by then some thirty reads have confirmed the guess."""

SCANNED_AT_ONCE = 4096
"""Index rows that one call looks at: about a millisecond."""

NEAR_THE_END = 256
"""A scan goes on into the next directory when it has so few planned files left before it."""

RECENT = 256
"""Files whose further READs belong to the same open file."""

_LOSS_DECAY = 0.97
_LOST = 10.0
"""A new epoch begins when about one in three of the last 32 opened files had been evicted. Fewer are
cheaper to read from the disk cache on demand than to read everything ahead again."""


class _Seen(Enum):
    FIRST = 1
    """Opened for the first time in this epoch; not read yet."""
    AGAIN = 2
    """Opened again in this epoch; not read yet."""
    READ = 3


class DatasetPlanner:
    """Plans small files; large ones have a window of their own (:mod:`ossmount.readahead.window`).

    ``budget`` are the bytes that may be planned and not opened: what the cache can hold. With several
    prefetchers each has its own planner and gets ``share = (number, of)``: it returns the files with
    ``ino % of == number`` and counts the others as planned.
    """

    def __init__(
        self,
        index: Index,
        settings: ReadaheadSettings,
        *,
        budget: int = 10 << 30,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._index = index
        self._mode = settings.readahead
        self._largest = settings.small_file
        self._budget = budget
        self._number, self._of = share
        self._scope = Scope(index)
        self._order = Order()
        self._listed = InodeSet()
        self._opened = InodeSet()
        self._planned = InodeSet()
        self._recent: OrderedDict[int, _Seen] = OrderedDict()
        self._pending = 0
        self._pending_bytes = 0
        self._window = float(FIRST_WINDOW)
        self._reads = 0
        self._losses = 0.0
        self._frontier = Frontier(index)
        self._known = array("Q")
        self._position = 0
        self._exhausted = False

    def __repr__(self) -> str:
        return (
            f"DatasetPlanner({self._mode}, scope {self._scope.directory}, {len(self._planned)} planned,"
            f" {self._pending} pending, window {int(self._window)})"
        )

    @property
    def pending(self) -> int:
        """Files that were planned and not opened since."""
        return self._pending

    @property
    def pending_bytes(self) -> int:
        """About how many bytes they have."""
        return self._pending_bytes

    @property
    def covers(self) -> bool:
        """Whether what programs will read is known well enough that it is as good as on its way."""
        return self._foretold() or self._window_now() >= COVERING_WINDOW

    @property
    def exhausted(self) -> bool:
        """Whether the next open of a file that has been planned or opened before can lead to no plan."""
        return not self._foretold() if self._known else self._exhausted

    def statistics(self) -> dict[str, int]:
        """Gauges: what is planned, pending, the window, files opened in this epoch."""
        return {
            "planned": len(self._planned),
            "pending": self._pending,
            "pending_bytes": self._pending_bytes,
            "window": int(self._window),
            "opened": len(self._opened),
        }

    # -- observations -----------------------------------------------------------------------------

    def listed(self, ino: int) -> None:
        """A program listed the directory. Alone this plans nothing: ``find`` reads no file."""
        self._listed.add(ino)

    def opened(self, ino: int) -> bool:
        """A program opened the file; True where it was neither planned nor opened before in this epoch."""
        self._losses *= _LOSS_DECAY
        if not self._opened.add(ino):
            self._remember(ino, _Seen.AGAIN)
            return False
        self._remember(ino, _Seen.FIRST)
        self._reads += 1
        follows = self._order.opened(ino)
        if ino in self._planned:
            self._arrive()
            self._grow()
            return False
        self._unforeseen(ino, follows)
        return True

    def reopened(self, count: int) -> None:
        """Programs opened so many files again of which nothing was missing."""
        self._losses *= _LOSS_DECAY**count

    def read(self, ino: int) -> None:
        """A READ of the file reached the daemon: its pages were not in the kernel."""
        seen = self._recent.get(ino)
        if seen is _Seen.READ:
            return
        if seen is None:
            self.opened(ino)
            seen = self._recent[ino]
        self._recent[ino] = _Seen.READ
        if seen is _Seen.AGAIN:
            self._lost()

    def know(self, inos: Iterable[int], *, begin: bool = True) -> None:
        """The order in which files will be opened, from the program itself; overrides all guesses.

        ``begin`` False continues the order that was given before. Files that were delivered in this epoch
        are not planned again.
        """
        if begin:
            self._known, self._position = array("Q"), 0
        self._known.extend(inos)

    def _arrive(self) -> None:
        """One of the pending files was opened; its length is taken to be the mean."""
        if self._pending:
            self._pending_bytes -= self._pending_bytes // self._pending
            self._pending -= 1

    def _remember(self, ino: int, seen: _Seen) -> None:
        self._recent[ino] = seen
        self._recent.move_to_end(ino)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)

    def _lost(self) -> None:
        self._losses += 1
        if self._losses < _LOST:
            return
        self._losses = 0.0
        self._opened.clear()
        self._planned.clear()
        self._pending = self._pending_bytes = self._reads = 0
        self._window = float(FIRST_WINDOW)
        self._frontier.stop()
        if self._known and (last := next(reversed(self._recent))) in self._known:
            self._position = self._known.index(last)

    def _unforeseen(self, ino: int, follows: bool) -> None:
        """A file that was not planned: is it where the guess says files will be read?"""
        if self._mode == "directory":
            self._stay_in(self._index.parent(ino))
        if self._mode != "auto":
            self._grow()
            return
        before = self._scope.directory
        within = self._scope.opened(ino)
        if self._scope.directory != before:
            self._moved(before)
        elif not within or (self._order.sequential and not follows):
            self._window = max(FIRST_WINDOW, self._window * SHRINK)
        elif before is not None:
            self._grow()
        if within and (self._order.sequential or not self._frontier.started):
            self._restart(ino)

    def _stay_in(self, directory: int) -> None:
        if self._scope.directory != directory:
            self._scope.move(directory)
            self._moved(None)
            self._frontier.start(directory, 0)

    def _moved(self, before: int | None) -> None:
        self._frontier.stop()
        if before is not None:
            # What was planned for the old scope may never be opened: it must not fill the window.
            self._pending = self._pending_bytes = 0
            self._reads = SCOPE_READS
            self._window = max(float(FIRST_WINDOW), self._window / 4)

    def _grow(self) -> None:
        directory = self._scope.directory
        growth = LISTED_GROWTH if directory is not None and directory in self._listed else GROWTH
        self._window = min(self._window * growth, float(FILES_PER_READ * self._reads + FIRST_WINDOW))

    # -- plans ------------------------------------------------------------------------------------

    def take(self, limit: int) -> list[FileRef]:
        """Up to ``limit`` files to fetch now, most wanted first; none of them twice in an epoch."""
        taken: list[FileRef] = []
        if self._mode in {"off", "file"}:
            return taken
        self._exhausted = False
        for _ in range(SCANNED_AT_ONCE):
            if len(taken) >= limit or not self._has_room():
                break
            ref = self._next()
            if ref is None:
                self._exhausted = not self._order.sequential or self._pending <= NEAR_THE_END
                break
            if self._wanted(ref):
                self._plan(ref)
                if ref.ino % self._of == self._number:
                    taken.append(ref)
        return taken

    def _has_room(self) -> bool:
        """Whether one more file may be planned now."""
        if self._pending_bytes >= self._budget:
            return False
        return self._foretold() or self._pending < self._window_now()

    def _window_now(self) -> int:
        if self._mode == "dataset":
            return 1 << 62 if self._reads else 0
        return int(self._window) if self._scope.directory is not None else 0

    def _foretold(self) -> bool:
        return self._position < len(self._known)

    def _wanted(self, ref: FileRef) -> bool:
        small = 0 < ref.length <= self._largest
        return small and ref.ino not in self._planned and ref.ino not in self._opened

    def _plan(self, ref: FileRef) -> None:
        self._planned.add(ref.ino)
        self._pending += 1
        self._pending_bytes += ref.length

    def _next(self) -> FileRef | None:
        if self._foretold():
            return self._next_known()
        if self._known:
            return None  # the program said all that it will read
        if not self._frontier.started:
            self._restart(0)
        while (ref := self._frontier.next()) is None:
            if not self._turn():
                return None
        return ref

    def _next_known(self) -> FileRef:
        ino = self._known[self._position]
        self._position += 1
        if ino % self._of != self._number:  # another's: counted as planned, with a usual length
            return FileRef(ino, max(1, self._pending_bytes // max(1, self._pending)))
        try:
            return FileRef(ino, self._index.extent(ino).length)
        except FileSystemError:
            return FileRef(ino, 0)  # a program may say anything; an empty file is never planned

    def _restart(self, ino: int) -> None:
        """The frontier starts behind ``ino``, which is in the scope, in a scan; else at the beginning."""
        directory = ROOT_INODE if self._mode == "dataset" else self._scope.directory
        if directory is not None:
            self._frontier.start(directory, ino if self._order.sequential else 0)

    def _turn(self) -> bool:
        """At the end of the scope: a scan goes on behind it, other reading with what was left out."""
        frontier = self._frontier
        if not frontier.started:
            return False
        if self._order.sequential and self._mode == "auto":
            last = frontier.last
            if last == 0 or self._pending > NEAR_THE_END or not self._scope.widen():
                return False
            frontier.start(self._scope.directory or ROOT_INODE, last)
            return True
        if frontier.whole:
            return False
        frontier.start(frontier.directory, 0)
        return True
