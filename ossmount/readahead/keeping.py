"""Keeping what was fetched: one thread of each process hands blocks to the disk cache, many at a time.

Why not the threads that fetched them: a put makes half a dozen system calls, each of which gives up the
interpreter lock and waits for it again, and only one thread can write at a time; 128 threads queued there
while their connections idled. Measured with 4,000 files of 68 KB at 20 ms: 370 µs of CPU for each file
before, 250 µs after. What may live here: that thread and its queue.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ossmount.model import BlockId
from ossmount.protocols import BlockCache

QUEUED_BYTES = 8 << 20
"""What may wait to be written; beyond it who fetched writes, and so fetches less. A block of the largest
usual part, and a tenth of a second of a disk that writes 80 MB/s."""

STREAM_BYTES = 64 << 20
"""The same for streams, which bound what they hold themselves. They never go through the page cache to catch
up: a GiB of fresh pages can cost a second of CPU, and then everything is late."""

AT_ONCE = 32
"""Blocks that are written together: from here on the gain is below a tenth."""

BYTES_AT_ONCE = QUEUED_BYTES // 2
"""… and bytes: large blocks gain nothing, and their memory waits for the whole batch. While one is written
another can come."""

NAP_SECONDS = 0.004
"""Between two batches, so that there is something to write together; the kernel has the bytes already."""

Done = Callable[[], object]

_log = logging.getLogger(__name__)


@runtime_checkable
class BatchingCache(Protocol):
    """What a cache offers that stores several blocks for little more than one."""

    def put_many(self, blocks: Sequence[tuple[BlockId, bytes]], *, hurry: bool = False) -> None:
        """As ``put`` for each, of which nothing is kept by reference: the memory will hold other blocks.

        ``hurry`` says that more is waiting than should.
        """
        ...


class _Kept(NamedTuple):
    blocks: Sequence[tuple[BlockId, bytes]]
    size: int
    done: Done | None
    stream: bool


class Keeper:
    """Puts blocks into ``cache`` soon. Thread-safe; its thread starts with the first block.

    ``threaded`` False puts them at once (for tests whose jobs run when they say so).
    """

    def __init__(self, cache: BlockCache, *, threaded: bool = True) -> None:
        self._cache = cache
        self._batching = cache if isinstance(cache, BatchingCache) else None
        self._threaded = threaded
        self._queue: queue.SimpleQueue[_Kept | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self.left_out = 0
        """Blocks of streams that were not offered to the cache."""
        self._thread: threading.Thread | None = None
        self._failed = False
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"Keeper({self._queued} bytes queued)"

    def keep(
        self, blocks: Sequence[tuple[BlockId, bytes]], done: Done | None = None, *, stream: bool = False
    ) -> None:
        """Queues ``blocks``; ``done`` is called when they were offered to the cache. Seldom waits.

        ``stream``: they are of one that a program is reading, and the kernel has them already: what finds
        ``STREAM_BYTES`` waiting is left out of the cache instead of slowing the reader down.
        """
        kept = _Kept(blocks, sum(len(data) for _, data in blocks), done, stream)
        with self._lock:
            room = self._queued + kept.size <= (STREAM_BYTES if stream else QUEUED_BYTES)
            queued = room and self._threaded and not self._closed.is_set()
            left_out = not queued and stream and self._threaded
            if queued:
                self._queued += kept.size
                self._queue.put(kept)
                self._start()
            elif left_out:
                self.left_out += len(blocks)
        if left_out:
            _finish([kept])
        elif not queued:
            self._put([kept])

    def _start(self) -> None:
        if self._thread is None:
            # Daemon: a write may hang in a dead disk for ever.
            self._thread = threading.Thread(target=self._run, name="ossmount-keep", daemon=True)
            self._thread.start()

    def close(self, timeout: float = 2.0) -> None:
        """Lets what is queued be written, for at most ``timeout`` seconds."""
        with self._lock:
            self._closed.set()
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._next():
            self._put(batch)
            size = sum(kept.size for kept in batch)
            del batch  # while the thread waits, their memory must not wait with it
            with self._lock:
                self._queued -= size
            if size < BYTES_AT_ONCE and not self._closed.is_set():
                time.sleep(NAP_SECONDS)

    def _next(self) -> list[_Kept]:
        """What is queued, up to ``AT_ONCE`` blocks; waits for the first. Nothing at the end."""
        batch: list[_Kept] = []
        size = 0
        kept = self._queue.get()
        while kept is not None:
            batch.append(kept)
            size += kept.size
            if len(batch) >= AT_ONCE or size >= BYTES_AT_ONCE:
                return batch
            try:
                kept = self._queue.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._queue.put(None)  # the end is for the next turn
        return batch

    def _put(self, batch: Sequence[_Kept]) -> None:
        try:
            self._offer(batch)
        except Exception:  # no cache raises, but a fault of one must not end a thread: nobody replaces it
            with self._lock:
                first, self._failed = not self._failed, True
            if first:
                _log.exception("blocks could not be kept; reading goes on, and later failures are not told")
        finally:
            _finish(batch)

    def _offer(self, batch: Sequence[_Kept]) -> None:
        blocks = [block for kept in batch for block in kept.blocks]
        if self._batching is not None:
            hurry = self._queued > QUEUED_BYTES // 2 and not batch[0].stream
            self._batching.put_many(blocks, hurry=hurry)
        else:
            for block, data in blocks:
                self._cache.put(block, bytes(data))  # it may keep the object; data may be a view


def _finish(batch: Sequence[_Kept]) -> None:
    for kept in batch:
        if kept.done is not None:
            kept.done()
