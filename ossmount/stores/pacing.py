"""Caps on requests and bytes a second that all processes of a mount keep together.

Made before the fork: the time at which the next request may start lies in shared memory, under a lock that
the kernel gives up when its holder dies. What may live here: that clock, and a store that waits for it. Who
may touch it: whoever changes what the caps mean.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator

from ossmount.model import ListPage, ObjectId, ObjectInfo
from ossmount.protocols import ObjectStore

_TIME = struct.Struct("<d")


class Pace:
    """Lets ``rate`` units a second start, evenly spaced, in all processes together. Crosses a fork."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock  # the monotonic clock is the machine's: every process reads the same
        self._sleep = sleep
        self._file = os.memfd_create("ossmount-pace", os.MFD_CLOEXEC)
        os.ftruncate(self._file, mmap.PAGESIZE)
        self._memory = mmap.mmap(self._file, mmap.PAGESIZE)
        self._threads = threading.Lock()

    def __repr__(self) -> str:
        return f"Pace({self._rate:g}/s)"

    def wait(self, units: float, *, patient: bool = False) -> None:
        """Returns when it is the caller's turn; the next one waits until ``units`` have passed.

        Who is ``patient`` books no turn in the future: whoever comes meanwhile goes first.
        """
        while (pause := self._turn(units, patient)) is not None:
            self._sleep(pause)
            if not patient:
                return

    def _turn(self, units: float, patient: bool) -> float | None:
        """Books a turn and tells how long to wait for it; None at once. A patient one books only then."""
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)  # of this process: threads have their own lock
            try:
                now = self._clock()
                (free_at,) = _TIME.unpack_from(self._memory)
                if not patient or free_at <= now:
                    _TIME.pack_into(self._memory, 0, max(now, free_at) + units / self._rate)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        return free_at - now if free_at > now else None


class Paced:
    """A store whose requests keep ``requests`` (by number) and ``bandwidth`` (by bytes asked for)."""

    def __init__(
        self, inner: ObjectStore, requests: Pace | None, bandwidth: Pace | None, *, patient: bool
    ) -> None:
        self._inner = inner
        self._requests = requests
        self._bandwidth = bandwidth
        self._patient = patient

    def __repr__(self) -> str:
        return f"Paced({self._inner!r}, {self._requests!r}, {self._bandwidth!r})"

    @property
    def uri(self) -> str:
        """See ``protocols.ObjectStore``."""
        return self._inner.uri

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """See ``protocols.ObjectStore``. Each page is one request."""
        self._wait(0)
        for page in self._inner.list(prefix, start_after, delimiter):
            yield page
            self._wait(0)

    def head(self, key: str) -> ObjectInfo:
        """See ``protocols.ObjectStore``."""
        self._wait(0)
        return self._inner.head(key)

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """See ``protocols.ObjectStore``."""
        if length:
            self._wait(length)
        return self._inner.get_range(target, start, length)

    def close(self) -> None:
        """See ``protocols.ObjectStore``."""
        self._inner.close()

    def _wait(self, size: int) -> None:
        if self._requests is not None:
            self._requests.wait(1, patient=self._patient)
        if self._bandwidth is not None and size:
            self._bandwidth.wait(size, patient=self._patient)
