"""Warming a mount's disk cache: which files, in which batches, and until when.

The client keeps two small batches under way and asks how far they are. So the prefetchers never hold a long
queue, a client that dies takes its wishes along, and a prefetcher that ends loses only what is sent again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ossmount.app.control import ControlClient
from ossmount.app.locating import File, files_below
from ossmount.errors import CacheError, MountError, SourceError, StoreError
from ossmount.model import Progress
from ossmount.protocols import Report

BATCH_FILES = 2048
BATCH_BYTES = 1 << 30
"""A batch takes seconds: long enough that a poll in between costs nothing, short enough to be sent again."""

UNDER_WAY = 2
"""Batches at once, so that the prefetchers are never without work while the client looks."""

LOOK_SECONDS = 0.1

STALLED_SECONDS = 300.0
"""Without any progress for so long warming has failed: a single read is given up after 120 s."""

UNATTENDED_SECONDS = 10.0
"""Without any prefetcher for so long none will come again: between two generations there is none for moments,
seconds where children end slowly."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """What a run of :func:`warm` did. ``present_bytes`` were in the cache before."""

    files: int
    bytes: int
    present_bytes: int
    declined_bytes: int
    failed_files: int

    @property
    def fetched_bytes(self) -> int:
        """Bytes that came from the store."""
        return self.bytes - self.present_bytes


@dataclass(frozen=True, slots=True)
class _Batch:
    number: int
    inos: Sequence[int]


def warm(
    mountpoint: str,
    paths: Sequence[File] = (),
    *,
    label: str | None = None,
    limit: int | None = None,
    report: Report = lambda _: None,
) -> Warmed:
    """Fetches files into the disk cache of the mount and returns when they are there.

    ``paths`` are files and directories (none: everything), ``label`` keeps only files that have it,
    ``limit`` stops before the file that would exceed so many bytes. What is cached is skipped. An interrupt
    withdraws what is not under way. Raises SourceError where nothing is named, MountError, StoreError where
    files could not be fetched, CacheError where the cache did not keep all.
    """
    with ControlClient(mountpoint) as client:
        inos, lengths = files_below(client.record(), paths, label)
        count = _within(lengths, limit)
        if count == 0:
            raise SourceError(
                f"nothing to warm in {client.mountpoint}", "check the paths, --label and --bytes"
            )
        total = sum(lengths[:count])
        done = _Run(client, total, report).through(_batches(inos[:count], lengths[:count]))
    return _checked(done)


def _within(lengths: Sequence[int], limit: int | None) -> int:
    """How many files, from the first, have at most ``limit`` bytes together."""
    if limit is None:
        return len(lengths)
    for count, length in enumerate(lengths):
        limit -= length
        if limit < 0:
            return count
    return len(lengths)


def _batches(inos: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
    first, size = 0, 0
    for i, length in enumerate(lengths):
        if i > first and (size + length > BATCH_BYTES or i - first >= BATCH_FILES):
            yield inos[first:i]
            first, size = i, 0
        size += length
    yield inos[first:]


def _checked(done: Warmed) -> Warmed:
    if done.failed_files:
        raise StoreError(
            f"{done.failed_files:,} of {done.files:,} files could not be fetched",
            "see the mount's log for the reasons, and warm again",
        )
    if done.declined_bytes:
        raise CacheError(
            f"the cache did not keep {done.declined_bytes:,} of {done.bytes:,} bytes: it is full",
            "give the mount a larger --cache-size, or warm less (--bytes, --label)",
        )
    return done


class _Run:
    """One run: what is under way, and what is done."""

    def __init__(self, client: ControlClient, total: int, report: Report) -> None:
        self._client = client
        self._total = total
        self._report = report
        self._under_way: list[_Batch] = []
        self._done = dict.fromkeys(Warmed.__slots__, 0)
        self._restarts: int | None = None
        self._moved = self._attended = time.monotonic()
        self._seen = -1

    def through(self, batches: Iterator[Sequence[int]]) -> Warmed:
        """Sends and waits until all is done."""
        self._report(Progress("warming", 0, self._total, "bytes"))
        rest = iter(batches)
        while True:
            while len(self._under_way) < UNDER_WAY and (inos := next(rest, None)) is not None:
                self._send(inos)
            if not self._under_way:
                return Warmed(**self._done)
            self._look()
            time.sleep(LOOK_SECONDS)

    def _send(self, inos: Sequence[int]) -> None:
        batch = _Batch(random.getrandbits(48) | 1, inos)
        self._under_way.append(batch)
        self._client.warm(batch.number, inos)

    def _look(self) -> None:
        answer = self._client.stats()
        progress = answer["counters"].get("warm", {})
        for batch in list(self._under_way):
            told = progress.get(f"batch-{batch.number}", {})
            if told.get("files", 0) >= len(batch.inos):
                self._under_way.remove(batch)
                for name in self._done:
                    self._done[name] += told[name]
        done = self._done["bytes"] + sum(
            progress.get(f"batch-{batch.number}", {}).get("bytes", 0) for batch in self._under_way
        )
        self._report(Progress("warming", min(done, self._total), self._total, "bytes"))
        self._watch(answer["supervisor"], done)

    def _watch(self, supervisor: Mapping[str, Any], done: int) -> None:
        """Sends again what may have ended with a prefetcher; gives up where nothing moves.

        A prefetcher ends when it dies, and when the mount goes over to another generation.
        """
        if self._restarts is not None and supervisor["restarts"] != self._restarts:
            lost, self._under_way = self._under_way, []
            for batch in lost:
                self._client.withdraw(batch.number)
                self._send(batch.inos)
        self._restarts = supervisor["restarts"]
        now = time.monotonic()
        if supervisor["prefetchers"]:
            self._attended = now
        if done != self._seen:
            self._seen, self._moved = done, now
        elif now - self._moved > STALLED_SECONDS or now - self._attended > UNATTENDED_SECONDS:
            raise MountError("warming makes no progress", "see the mount's log, and warm again")
