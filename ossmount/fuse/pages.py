"""Pushing bytes into the kernel's page cache (``FUSE_NOTIFY_STORE``).

What may live here: pushes, and how much memory there is for them. Who may touch it: whoever changes what
is pushed, with the rule of FACTS in mind: a push waits for pages that a READ has locked, so the thread
that answers READs must never push.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import re
import threading
import time
from pathlib import Path

import pyfuse3

log = logging.getLogger(__name__)

QUEUED_BYTES = 32 << 20
"""What may wait to be pushed by a worker. Beyond it is dropped: the kernel will ask for it."""

MEMORY_FLOOR = 128 << 20
"""No push while less memory than this is available: stored pages are evictable, but evicting costs."""

LOOK_AGAIN_SECONDS = 0.25
"""How long a look at the available memory is believed; a look costs 60 µs, a push 40 µs."""

_NOT_KNOWN = frozenset({errno.ENOENT, errno.ENODEV, errno.ECONNABORTED})


def store(ino: int, offset: int, data: bytes) -> bool:
    """Stores ``data`` as the pages of ``ino`` from ``offset``; whether the kernel took it.

    It does not where it has not looked up the inode yet, or has forgotten it, or the mount is gone.
    May wait for a READ of the same pages: never call it in the thread that answers.
    """
    try:
        pyfuse3.notify_store(ino, offset, data)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            log.warning("the kernel refused pages of inode %d: %s", ino, error)
        _counts.add(refused=1)
        return False
    _counts.add(stored=1, stored_bytes=len(data))
    return True


def statistics() -> dict[str, int]:
    """What this process pushed: ``stored`` and ``refused`` pushes, ``stored_bytes``, ``short_of_memory``."""
    return _counts.statistics()


def push(ino: int, offset: int, data: bytes) -> bool:
    """:func:`store`, unless memory is short. For prefetchers, which answer nobody."""
    if not _memory.has_room():
        _counts.add(short_of_memory=1)
        return False
    return store(ino, offset, data)


class Pusher:
    """Pushes from a thread of its own, for a worker, which must go on answering."""

    def __init__(self, limit: int = QUEUED_BYTES) -> None:
        self._limit = limit
        self._queued = 0
        self._closed = self._dropping = False
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[int, int, bytes] | None] = queue.SimpleQueue()
        self._counts = {"stored": 0, "refused": 0, "dropped": 0}
        # Daemon: a push may wait for a READ that a stopping worker leaves to the next one.
        self._thread = threading.Thread(target=self._run, name="pusher", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Pusher queued={self._queued} {self._counts}>"

    def push_nowait(self, ino: int, offset: int, data: bytes) -> bool:
        """Queues a push; False where too much is queued, and after :meth:`close`."""
        with self._lock:
            if self._closed or self._queued + len(data) > self._limit:
                self._counts["dropped"] += 1
                return False
            self._queued += len(data)
        self._queue.put((ino, offset, data))
        return True

    def statistics(self) -> dict[str, int]:
        """Pushes stored, refused by the kernel or for want of memory, and dropped here."""
        return dict(self._counts)

    def close(self, timeout: float = 1.0) -> None:
        """Lets the thread finish what is queued, for at most ``timeout`` seconds; the rest is dropped."""
        with self._lock:
            self._closed = True
        self._queue.put(None)
        self._thread.join(timeout)
        self._dropping = True

    def _run(self) -> None:
        while (item := self._queue.get()) is not None and not self._dropping:
            stored = push(*item)
            self._counts["stored" if stored else "refused"] += 1
            size = len(item[2])
            del item  # while the thread waits, its memory must not wait with it
            with self._lock:
                self._queued -= size


class _Counts:
    """Counters of this process: several threads push."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("stored", "refused", "stored_bytes", "short_of_memory"), 0)

    def add(self, **more: int) -> None:
        with self._lock:
            for name, count in more.items():
                self._counts[name] += count

    def statistics(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


_counts = _Counts()


class _Memory:
    """A recent look at the available memory."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._room = True

    def has_room(self) -> bool:
        now = time.monotonic()
        if now - self._looked > LOOK_AGAIN_SECONDS:
            self._room = available_memory() > MEMORY_FLOOR
            self._looked = now
        return self._room


_memory = _Memory()


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process's page cache may grow by: of the machine, and of its control group.

    Pages are charged to the group of the process that stores them, and a full group first drops its
    own inactive pages, so those count as available. ``root`` is where ``/proc`` and ``/sys`` are.
    """
    meminfo = (root / "proc/meminfo").read_text()
    match = re.search(r"^MemAvailable:\s*(\d+) kB", meminfo, re.MULTILINE)
    machine = int(match[1]) << 10 if match else 1 << 62
    return min([machine, *_group_rooms(root)])


def _group_rooms(root: Path) -> list[int]:
    """Bytes left in this process's group and each group above it (cgroup v2; v1: the group's own)."""
    rooms = []
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):
                rooms.append(_room_in(folder, *files))
            if folder == base:
                break
    return rooms


def _room_in(folder: Path, limit: str, usage: str, inactive: str) -> int:
    """Raises OSError or ValueError where the group has no limit ("max") or no such files."""
    room = int((folder / limit).read_text()) - int((folder / usage).read_text())
    match = re.search(rf"^{inactive} (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
    return max(0, room + (int(match[1]) if match else 0))
