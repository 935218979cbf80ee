"""Warming: whole files into the disk cache because somebody asked for it, not because a program reads.

What may live here: the queue of wished files and the task that carries it out when nothing else wants the
fetcher's room. Nothing is pushed into the kernel: the page cache is for what is read next. Blocks that the
cache has are skipped, so that a wish may be repeated. Loop only, but for the callback that tells that a part
is settled.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import trio

from ossmount.config import ReadaheadSettings
from ossmount.errors import FileSystemError
from ossmount.model import BlockId, Extent
from ossmount.protocols import Index
from ossmount.readahead.fetcher import Fetcher
from ossmount.readahead.threads import Mailbox
from ossmount.readahead.window import blocks_of

log = logging.getLogger(__name__)

REMEMBERED_BATCHES = 32
"""Batches whose progress is still told. Who warms keeps a few under way at once."""

STEPS_AT_ONCE = 256
"""Parts that are looked up in the cache before the loop gets a turn: about two milliseconds."""


@dataclass(slots=True)
class WarmProgress:
    """How far a batch is. A file counts as done when every block of it was dealt with."""

    files: int = 0
    """Files done, whatever became of them."""
    bytes: int = 0
    """Bytes done."""
    present_bytes: int = 0
    """… of which the cache had before."""
    declined_bytes: int = 0
    """… of which were fetched and the cache did not keep."""
    failed_files: int = 0


class _File:
    """A wished file and how many of its parts are not done."""

    __slots__ = ("failed", "ino", "left", "progress")

    def __init__(self, ino: int, progress: WarmProgress) -> None:
        self.ino = ino
        self.progress = progress
        self.left = 1
        """One more than the parts under way, until the last part is cut."""
        self.failed = False

    def finish_one(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.progress.files += 1
            self.progress.failed_files += self.failed


class _Part:
    """Blocks that are fetched together."""

    __slots__ = ("blocks", "file", "missing")

    def __init__(self, file: _File, blocks: Sequence[BlockId]) -> None:
        self.file = file
        self.blocks = blocks
        self.missing: set[BlockId] = set()


class Warming:
    """Carries out wishes for files with ``ino % of == number``.

    ``cached(block)`` says whether the disk cache has a block; it is called on the loop and must be quick.
    Must be made inside a trio run.
    """

    def __init__(
        self,
        index: Index,
        fetcher: Fetcher,
        cached: Callable[[BlockId], bool],
        settings: ReadaheadSettings,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._index = index
        self._fetcher = fetcher
        self._cached = cached
        self._small = settings.small_file
        self._block = settings.block_size
        self._part = max(1, settings.part_size // settings.block_size) * settings.block_size
        self._number, self._of = share
        self._total = WarmProgress()
        self._batches: OrderedDict[int, WarmProgress] = OrderedDict()
        self._wished: deque[tuple[int, int]] = deque()
        """(batch, ino), in the order of the wishes."""
        self._parts: Iterator[_Part] | None = None
        self._batch = 0
        self._later: deque[_Part] = deque()
        """Parts with blocks that others are fetching just now."""
        self._news = trio.Event()
        self._mailbox: Mailbox[tuple[_Part, Sequence[BlockId], bool]] = Mailbox(self._settle)

    def __repr__(self) -> str:
        return f"Warming({len(self._wished)} files wished, {self._total})"

    def statistics(self) -> dict[str, dict[str, int]]:
        """Counters over all batches, and by batch for the last ones."""
        batches = {f"batch-{batch}": asdict(progress) for batch, progress in self._batches.items()}
        return {"total": asdict(self._sum()), **batches}

    def _sum(self) -> WarmProgress:
        total = WarmProgress(**asdict(self._total))
        for progress in self._batches.values():
            _add(total, progress)
        return total

    def wish(self, batch: int, inos: Sequence[int]) -> None:
        """Adds files to ``batch``."""
        self._progress(batch)
        self._wished.extend((batch, ino) for ino in inos if ino % self._of == self._number)
        self.room()

    def withdraw(self, batch: int) -> None:
        """Forgets what of ``batch`` is not under way."""
        self._wished = deque(wish for wish in self._wished if wish[0] != batch)
        if self._batch == batch:
            self._parts = None
        progress = self._batches.get(batch)
        self._later = deque(part for part in self._later if part.file.progress is not progress)

    def room(self) -> None:
        """To be called when the fetcher may have room."""
        self._news.set()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            if self._step_until_full():
                await trio.lowlevel.checkpoint()
            else:
                self._news = trio.Event()
                await self._news.wait()

    def _step_until_full(self) -> bool:
        """Starts what there is room for; True where more could be done at once."""
        for _ in range(min(len(self._later), self._fetcher.room())):
            self._start(self._later.popleft())
        for _ in range(STEPS_AT_ONCE):
            if self._fetcher.room() <= 0:
                return False
            part = self._next()
            if part is None:
                return False
            self._start(part)
        return True

    def _next(self) -> _Part | None:
        while True:
            if self._parts is not None and (part := next(self._parts, None)) is not None:
                return part
            if not self._wished:
                self._parts = None
                return None
            self._batch, ino = self._wished.popleft()
            self._parts = self._parts_of(_File(ino, self._progress(self._batch)))

    def _parts_of(self, file: _File) -> Iterator[_Part]:
        try:
            extent = self._index.extent(file.ino)
        except FileSystemError:
            file.failed = True  # of another generation, or a directory
        else:
            for blocks in self._cut(extent):
                file.left += 1
                yield _Part(file, blocks)
        file.finish_one()

    def _cut(self, extent: Extent) -> Iterator[Sequence[BlockId]]:
        """The extent in canonical blocks, a few at a time: those that readers will ask for."""
        if extent.length <= self._small:
            if extent.length:
                yield [extent.block]
            return
        for start in range(0, extent.length, self._part):
            yield blocks_of(extent, start, min(self._part, extent.length - start), self._block)

    def _start(self, part: _Part) -> None:
        if any(map(self._fetcher.under_way, part.blocks)):
            self._later.append(part)
            return
        part.missing = {block for block in part.blocks if not self._cached(block)}
        present = sum(block.length for block in part.blocks if block not in part.missing)
        part.file.progress.bytes += present
        part.file.progress.present_bytes += present
        if not part.missing:
            part.file.finish_one()
            return

        def settled(blocks: Sequence[BlockId], ok: bool) -> None:
            self._mailbox.post((part, blocks, ok))

        wanted = sorted(part.missing, key=lambda block: block.offset)
        asked = self._fetcher.prefetch(wanted, None, settled)
        if asked < len(wanted):  # the rest is in this process's memory: it is no use to others
            self._settle((part, [b for b in wanted if not self._fetcher.under_way(b)], True))

    def _settle(self, news: tuple[_Part, Sequence[BlockId], bool]) -> None:
        part, blocks, ok = news
        settled = part.missing.intersection(blocks)
        if not settled:
            return  # a hedged request came back twice
        progress = part.file.progress
        part.missing -= settled
        part.file.failed |= not ok
        progress.bytes += sum(block.length for block in settled)
        if ok:
            progress.declined_bytes += sum(b.length for b in settled if not self._cached(b))
        if not part.missing:
            part.file.finish_one()

    def _progress(self, batch: int) -> WarmProgress:
        progress = self._batches.get(batch)
        if progress is None:
            progress = self._batches[batch] = WarmProgress()
            if len(self._batches) > REMEMBERED_BATCHES:
                _add(self._total, self._batches.popitem(last=False)[1])
        return progress


def _add(total: WarmProgress, more: WarmProgress) -> None:
    for name, value in asdict(more).items():
        setattr(total, name, getattr(total, name) + value)
