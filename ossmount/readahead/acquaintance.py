"""Which files the kernel has been introduced to, and which it is to be.

Pages can be pushed only of inodes that the kernel knows, and a file that it does not know costs a LOOKUP when
it is opened. Listing a directory through the mount introduces a hundred files with one request. So who plans
to push a file has those around it introduced while its bytes are on their way. Where the kernel asks for a
name after all, or refuses pages, those around that file are introduced again: it forgets names when memory is
short.

What may live here: when that is worth a request. Who may touch it: whoever changes what a stretch is.
"""

from __future__ import annotations

import contextlib
import mmap
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from ossmount.errors import FileSystemError
from ossmount.model import ROOT_INODE
from ossmount.protocols import Index

STRETCH = 7
"""Files of one directory whose inode numbers agree but for so many bits are introduced together: 128, which
is what one answer holds."""

AGAIN_SECONDS = 1.0
"""Where the kernel does not know what it was told, a stretch is introduced again at most so often: that may
be on its way, or the kernel forgets as fast as it learns."""

REPEATS, REPEATS_PER_SECOND = 256, 100
"""Stretches that are introduced because the kernel does not know them: so many at once, then so many
a second. Each costs as much as two files of an epoch: not worth it where few of its files are read."""

REMEMBERED = 1 << 12
"""Stretches of which a prefetcher knows when it was told that they are not known."""

CLAIMS = 1 << 20
"""Places for stretches that have been introduced, a byte each, of which memory holds the pages in use. Where
two share one, the kernel's refusals tell; neighbours in the tree do not."""

Introduce = Callable[[int, int], bool]
"""``introduce(directory, after)`` has the directory listed from behind its child ``after``; whether it was.
May raise FileSystemError."""

_Stretch = tuple[int, int]
"""Directory, and the upper bits of the inode numbers."""


class Acquaintances:
    """What prefetchers have introduced, for all of them. Made before the fork."""

    def __init__(self) -> None:
        self._claims = mmap.mmap(-1, CLAIMS)

    def claim(self, stretch: _Stretch) -> bool:
        """Whether the caller is the first to introduce the stretch. Two at the same moment may both be."""
        directory, part = stretch
        place = (directory // 2 + part) % CLAIMS
        if self._claims[place]:
            return False
        self._claims[place] = 1
        return True


class Acquaintance:
    """Has files introduced, in prefetcher ``number`` of ``of``. ``clock``: seconds."""

    def __init__(
        self,
        index: Index,
        introduce: Introduce = lambda directory, after: False,
        all_of_them: Acquaintances | None = None,
        share: tuple[int, int] = (0, 1),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index, self._introduce = index, introduce
        self._all = all_of_them or Acquaintances()
        self._number, self._of = share
        self._clock = clock
        self._missed: OrderedDict[_Stretch, float] = OrderedDict()
        self._waiting: deque[_Stretch] = deque()
        self._refused: deque[int] = deque(maxlen=REMEMBERED)
        self._introduced = 0
        self._repeats, self._counted = float(REPEATS), clock()
        """How many are left, and when that was counted."""

    @property
    def introduced(self) -> int:
        """Stretches introduced so far."""
        return self._introduced

    def __repr__(self) -> str:
        return f"Acquaintance({len(self._waiting)} stretches to introduce)"

    def plan(self, ino: int) -> None:
        """The file will be pushed: it is introduced if nobody has done so. Raises FileSystemError."""
        stretch = self._index.parent(ino), ino >> STRETCH
        if self._all.claim(stretch):
            self._waiting.append(stretch)

    def miss(self, ino: int) -> None:
        """The kernel has asked for the file's name, as every prefetcher is told. Raises FileSystemError."""
        directory = self._index.parent(ino)
        if directory % self._of == self._number:
            self._repeat((directory, ino >> STRETCH))

    def refuse(self, ino: int) -> None:
        """The kernel has refused pages of the file, as only this prefetcher knows. From any thread."""
        self._refused.append(ino)

    def go_on(self) -> None:
        """Introduces what is to be introduced. Waits for each listing, some tenths of a millisecond."""
        while self._refused:
            with contextlib.suppress(FileSystemError):
                ino = self._refused.popleft()
                self._repeat((self._index.parent(ino), ino >> STRETCH))
        while self._waiting:
            directory, part = self._waiting.popleft()
            with contextlib.suppress(FileSystemError):  # another generation has come
                self._introduced += self._introduce(directory, self._before(directory, part << STRETCH))

    def _repeat(self, stretch: _Stretch) -> None:
        now = self._clock()
        self._repeats = min(REPEATS, self._repeats + (now - self._counted) * REPEATS_PER_SECOND)
        self._counted = now
        if now - self._missed.get(stretch, -AGAIN_SECONDS) < AGAIN_SECONDS or self._repeats < 1:
            return
        self._repeats -= 1
        self._missed[stretch] = now
        self._missed.move_to_end(stretch)
        if len(self._missed) > REMEMBERED:
            self._missed.popitem(last=False)
        self._all.claim(stretch)
        self._waiting.append(stretch)

    def _before(self, directory: int, first: int) -> int:
        """The child behind which to begin; 0 where the directory begins amid the stretch."""
        try:
            return first - 1 if first > ROOT_INODE and self._index.parent(first - 1) == directory else 0
        except FileSystemError:
            return 0
