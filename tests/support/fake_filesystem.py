"""A file system in memory, for tests of the kernel adapter: fixed bytes, optional delays, no store."""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from ossmount.errors import (
    AccessDenied,
    DeadlineExceeded,
    IndexDamaged,
    IsADirectory,
    NoSuchAttribute,
    NoSuchEntry,
    NotADirectory,
    ObjectChanged,
    StoreUnavailable,
)
from ossmount.fuse.pages import push
from ossmount.model import ROOT_INODE, Attributes, Kind, Listing

CHUNK = 256
COUNTERS = {
    b"user.fake.lookups": "lookups",
    b"user.fake.reads": "reads",
    b"user.fake.opens": "opens",
    b"user.fake.unasked": "unasked",
}
"""Extended attributes of the root that tell how often the worker that answers was asked."""

HELD = mmap.mmap(-1, 1)
"""Shared by the processes of a mount: whether a worker holds a READ."""

log = logging.getLogger(__name__)
MTIME_NS = 1_700_000_000_123_456_789


@dataclass(frozen=True, slots=True)
class FakeTotals:
    files: int
    directories: int
    total_bytes: int


@dataclass
class FakeFileSystem:
    """Directories and files numbered in the order of their paths; a file's bytes follow from its path."""

    sizes: Mapping[str, int]
    delay: float = 0.0
    pushes: bool = False
    failures: Mapping[str, Exception] = field(default_factory=dict)
    busy: float = 0.0
    """Seconds in which a read keeps the whole process busy."""
    at_hand: set[int] = field(default_factory=set)
    """Files whose bytes nobody has to wait for."""
    opens_matter: bool = True
    reads: int = 0
    lookups: int = 0
    opens: int = 0
    unasked: int = 0
    """READs of files that the kernel opened without asking."""
    ended: int = 0

    def __post_init__(self) -> None:
        self._paths: dict[int, str] = {ROOT_INODE: ""}
        self._inos: dict[str, int] = {"": ROOT_INODE}
        self._children: dict[int, list[int]] = {ROOT_INODE: []}
        self._names: dict[tuple[int, bytes], int] = {}
        self._rest: dict[int, tuple[int, bytes]] = {}
        for path in sorted(self.sizes):
            parts = path.split("/")
            for depth in range(1, len(parts) + 1):
                self._add("/".join(parts[:depth]), is_file=depth == len(parts))
        self._bytes: dict[str, bytes] = {}

    def _add(self, path: str, is_file: bool) -> None:
        if path in self._inos:
            return
        ino = len(self._inos) + 1
        parent = self._inos[path.rpartition("/")[0]]
        self._inos[path], self._paths[ino] = ino, path
        self._children[parent].append(ino)
        self._names[parent, path.rpartition("/")[2].encode()] = ino
        if not is_file:
            self._children[ino] = []

    def content(self, path: str) -> bytes:
        """The bytes of a file: made once, different for every path, without a short period."""
        if path not in self._bytes:
            self._bytes[path] = content(path, self.sizes[path])
        return self._bytes[path]

    def _path(self, ino: int) -> str:
        try:
            return self._paths[ino]
        except KeyError:
            raise NoSuchEntry(f"no inode {ino}") from None

    def lookup(self, parent: int, name: bytes) -> Attributes:
        self.lookups += 1
        if parent not in self._children:
            raise NotADirectory(self._path(parent))
        ino = self._names.get((parent, name))
        if ino is None:
            raise NoSuchEntry(repr(name))
        return self.attributes(ino)

    def attributes(self, ino: int) -> Attributes:
        path = self._path(ino)
        if ino in self._children:
            subdirectories = sum(child in self._children for child in self._children[ino])
            return Attributes(ino, Kind.DIRECTORY, 0, MTIME_NS, 2 + subdirectories)
        return Attributes(ino, Kind.FILE, self.sizes[path], MTIME_NS, 1)

    def listed(self, ino: int) -> None:
        self._path(ino)

    def listing(self, ino: int, after: int) -> Iterator[Listing]:
        if ino not in self._children:
            raise NotADirectory(self._path(ino))
        children = self._children[ino]
        start = children.index(after) + 1 if after else 0
        for first in range(start, len(children), CHUNK):
            yield self._columns(children[first : first + CHUNK])

    def _columns(self, inos: list[int]) -> Listing:
        rows = [self.attributes(ino) for ino in inos]
        return Listing(
            names=[self._paths[ino].rpartition("/")[2].encode() for ino in inos],
            inos=inos,
            kinds=[row.kind for row in rows],
            sizes=[row.size for row in rows],
            mtimes_ns=[row.mtime_ns for row in rows],
            links=[row.links for row in rows],
        )

    def opened(self, ino: int) -> None:
        self.opens += 1
        self._path(ino)

    def opens_end(self) -> None:
        self.ended += 1

    def read_unasked(self) -> None:
        self.unasked += 1

    def read_nowait(self, ino: int, offset: int, size: int) -> bytes | None:
        return self.content(self._path(ino))[offset : offset + size] if ino in self.at_hand else None

    async def read(self, ino: int, offset: int, size: int) -> bytes:
        path = self._path(ino)
        if ino in self._children:
            raise IsADirectory(path)
        self.reads += 1
        if self.busy:
            log.info("read by %d", os.getpid())
            time.sleep(self.busy)  # noqa: ASYNC251 - the point of it
        if self.delay:
            await trio.sleep(self.delay)
        if path in self.failures:
            raise self.failures[path]
        data = self.content(path)
        end = offset + size
        if self.pushes and end < len(data):
            self._rest[ino] = (end, data[end:])
        return data[offset:end]

    def remainder(self, ino: int) -> tuple[int, bytes] | None:
        return self._rest.pop(ino, None)

    def xattr(self, ino: int, name: bytes) -> bytes:
        if ino == ROOT_INODE and name in COUNTERS:
            return str(getattr(self, COUNTERS[name])).encode()
        if name not in self.xattr_names(ino):
            raise NoSuchAttribute(repr(name))
        return b"fake:///" + self._path(ino).encode()

    def xattr_names(self, ino: int) -> Sequence[bytes]:
        return [b"user.ossmount.uri"] if ino not in self._children else []

    def totals(self) -> FakeTotals:
        directories = len(self._children)
        return FakeTotals(len(self._inos) - directories, directories, sum(self.sizes.values()))


def content(path: str, size: int) -> bytes:
    """``size`` bytes that follow from ``path``: SHAKE output, so that no two offsets look alike."""
    return hashlib.shake_128(path.encode()).digest(size)


def small_tree() -> dict[str, int]:
    """Sizes by path: odd sizes, an empty file, nested directories."""
    sizes = {f"class{c}/img{i:03}.jpg": 1000 * i + 13 * c for c in range(3) for i in range(20)}
    return {**sizes, "empty": 0, "one": 1, "page-1": 4095, "big": 3 * (1 << 20) + 17, "deep/er/est": 5}


def wide_tree() -> dict[str, int]:
    """One directory of 10,000 files of 10 bytes."""
    return {f"wide/file{i:05}": 10 for i in range(10_000)}


@asynccontextmanager
async def serve_small(number: int) -> AsyncIterator[FakeFileSystem]:
    yield FakeFileSystem(small_tree())


@asynccontextmanager
async def serve_slow(number: int) -> AsyncIterator[FakeFileSystem]:
    yield FakeFileSystem(small_tree(), delay=0.05)


@asynccontextmanager
async def serve_settled(number: int) -> AsyncIterator[FakeFileSystem]:
    """Opens say nothing."""
    yield FakeFileSystem(small_tree(), opens_matter=False, delay=0.005)


@asynccontextmanager
async def serve_wide(number: int) -> AsyncIterator[FakeFileSystem]:
    yield FakeFileSystem(wide_tree())


@asynccontextmanager
async def serve_pushing(number: int) -> AsyncIterator[FakeFileSystem]:
    yield FakeFileSystem(small_tree(), pushes=True)


@asynccontextmanager
async def serve_slowish(number: int) -> AsyncIterator[FakeFileSystem]:
    yield FakeFileSystem(small_tree(), delay=0.005)


@asynccontextmanager
async def serve_busy(number: int) -> AsyncIterator[FakeFileSystem]:
    yield FakeFileSystem(small_tree(), busy=0.1)


@asynccontextmanager
async def serve_failing(number: int) -> AsyncIterator[FakeFileSystem]:
    failures: dict[str, Exception] = {
        "changed": ObjectChanged("the object behind 'changed' is another one"),
        "denied": AccessDenied("the store refused the key of 'denied'"),
        "deadline": DeadlineExceeded("no answer for 'deadline'"),
        "unavailable": StoreUnavailable("the store is away"),
        "broken": ZeroDivisionError("a bug"),
    }
    yield FakeFileSystem(dict.fromkeys(failures, 10), failures=failures)


@asynccontextmanager
async def serve_nothing(number: int) -> AsyncIterator[FakeFileSystem]:
    async with trio.open_nursery():
        raise IndexDamaged("the index is truncated", "build it again")
    yield FakeFileSystem({})


@asynccontextmanager
async def serve_and_die(number: int) -> AsyncIterator[FakeFileSystem]:
    os.abort()
    yield FakeFileSystem({})


async def prefetch_big(number: int) -> None:
    """Pushes the file ``big`` as soon as the kernel knows it."""
    sizes = small_tree()
    ino = FakeFileSystem(sizes).lookup(ROOT_INODE, b"big").ino
    data = content("big", sizes["big"])
    while not push(ino, 0, data):  # noqa: ASYNC110 - the kernel tells nobody what it has looked up
        await trio.sleep(0.02)
    log.info("stored by prefetcher %d", number)
    await trio.sleep_forever()


async def prefetch_deaf(number: int) -> None:
    """Does not end when it is told to, like one that waits in the kernel for an answer of the mount."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log.info("deaf")
    await trio.sleep_forever()


class HoldingFileSystem(FakeFileSystem):
    """Accepts READs and never answers them."""

    async def read(self, ino: int, offset: int, size: int) -> bytes:
        HELD[0] = 1
        await trio.sleep_forever()
        raise AssertionError("nobody wakes it")


@asynccontextmanager
async def serve_holding(number: int) -> AsyncIterator[FakeFileSystem]:
    yield HoldingFileSystem(small_tree())


class PushingAtOnce(FakeFileSystem):
    """Holds the first READ of all, and pushes its pages: a thread waits in the kernel for the answer."""

    async def read(self, ino: int, offset: int, size: int) -> bytes:
        if not HELD[0]:
            HELD[0] = 1
            log.info("pushing")
            await trio.to_thread.run_sync(push, ino, offset, content("big", offset + 4096)[offset:])
        return await super().read(ino, offset, size)


@asynccontextmanager
async def serve_pushing_at_once(number: int) -> AsyncIterator[FakeFileSystem]:
    yield PushingAtOnce(small_tree())


async def prefetch_held(number: int) -> None:
    """Pushes pages that a READ of ``big`` locked: a thread waits in the kernel, where no signal ends it."""
    while not HELD[0]:  # noqa: ASYNC110 - the worker is another process
        await trio.sleep(0.01)
    ino = FakeFileSystem(small_tree()).lookup(ROOT_INODE, b"big").ino
    log.info("pushing")
    await trio.to_thread.run_sync(push, ino, 0, content("big", 4096), abandon_on_cancel=True)
    await trio.sleep_forever()


@asynccontextmanager
async def serve_and_linger(number: int) -> AsyncIterator[FakeFileSystem]:
    """Closes its stores for ever."""
    yield FakeFileSystem(small_tree())
    await trio.sleep_forever()


@asynccontextmanager
async def serve_next(number: int) -> AsyncIterator[FakeFileSystem]:
    """Another generation of the small tree: it has a file more."""
    yield FakeFileSystem({**small_tree(), "new": 3})
