"""Retry and counting as object stores around an object store.

What may live here: concerns that every store shares. Touch it when a new one appears; a store's own
oddities belong into the store. Wrappers know the interface and nothing of what is inside.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ossmount.errors import DeadlineExceeded, StoreUnavailable, Throttled
from ossmount.histogram import Histogram
from ossmount.model import ListPage, ObjectId, ObjectInfo
from ossmount.protocols import ObjectStore
from ossmount.stores.describing import Counted, Describing, GetRequest
from ossmount.uris import shown_uri

T = TypeVar("T")

FIRST_PAUSE = 0.1
"""Upper bound in seconds of the first pause between attempts; doubled each time."""

LONGEST_PAUSE = 20.0
"""Upper bound of any pause, that of the AWS SDKs' standard mode."""

_DOUBLINGS = 16
"""Twice as often as it takes to reach the longest pause; more would overflow a float in the end."""

THROTTLED_FACTOR = 5
"""How much longer the pauses are when the store asks for fewer requests."""

_LAST_CHARACTER = "\U0010ffff"
"""Greater than what may follow in a key: resumes a delimited listing behind a common prefix."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: a pause is uniform between 0 and the doubled bound.

    ``deadline`` is the time in seconds one call may take with all its attempts. ``clock``, ``sleep`` and
    ``uniform`` are there for tests.
    """

    retries: int = 5
    deadline: float = 120.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform

    def pause(self, attempt: int, throttled: bool) -> float:
        """Seconds before attempt ``attempt`` + 1 (attempts count from 0)."""
        first = FIRST_PAUSE * (THROTTLED_FACTOR if throttled else 1)
        return self.uniform(0.0, min(LONGEST_PAUSE, first * 2.0 ** min(attempt, _DOUBLINGS)))


class Retrying:
    """Repeats what failed with StoreUnavailable or Throttled; everything else passes at once."""

    def __init__(
        self, inner: ObjectStore, backoff: Backoff, on_throttled: Callable[[], None] = lambda: None
    ) -> None:
        self._inner = inner
        self._describing = inner if isinstance(inner, Describing) else None
        self._counting = inner if isinstance(inner, Counted) else None
        self._backoff = backoff
        self._on_throttled = on_throttled
        self._lock = threading.Lock()
        self._repeats = 0

    @property
    def repeats(self) -> int:
        """Requests that were made again so far."""
        return self._repeats

    def __repr__(self) -> str:
        return f"Retrying({self._inner!r}, retries={self._backoff.retries})"

    @property
    def uri(self) -> str:
        """See ``protocols.ObjectStore``."""
        return self._inner.uri

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """See ``protocols.ObjectStore``. A listing that breaks off goes on behind its last page."""
        pages = self._inner.list(prefix, start_after, delimiter)
        last = start_after

        def next_page() -> ListPage | None:
            nonlocal pages
            try:
                return next(pages, None)
            except StoreUnavailable:
                pages = self._inner.list(prefix, last, delimiter)  # a generator that raised is finished
                raise

        while (page := self._call(next_page, f"listing {self.uri}/{prefix}")) is not None:
            yield page
            last = _behind(page, last)

    def head(self, key: str) -> ObjectInfo:
        """See ``protocols.ObjectStore``."""
        return self._call(lambda: self._inner.head(key), f"{self.uri}/{key}")

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """See ``protocols.ObjectStore``. Raises DeadlineExceeded when no time is left for a retry."""
        return self._call(lambda: self._inner.get_range(target, start, length), f"{self.uri}/{target.key}")

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        """See ``describing.Describing``. Whoever fails to send it repeats it by ``get_range``."""
        return None if self._describing is None else self._describing.describe(target, start, length)

    def sent(self, size: int, seconds: float, *, failed: bool, throttled: bool = False) -> None:
        """See ``describing.Counted``."""
        if throttled:
            self._on_throttled()
        if failed:
            with self._lock:
                self._repeats += 1
        if self._counting is not None:
            self._counting.sent(size, seconds, failed=failed, throttled=throttled)

    def close(self) -> None:
        """See ``protocols.ObjectStore``."""
        self._inner.close()

    def _call(self, attempt: Callable[[], T], what: str) -> T:
        backoff = self._backoff
        began = backoff.clock()
        for count in range(backoff.retries):
            try:
                return attempt()
            except StoreUnavailable as error:
                throttled = isinstance(error, Throttled)
                if throttled:
                    self._on_throttled()
                pause = backoff.pause(count, throttled)
                if backoff.clock() + pause - began > backoff.deadline:
                    raise DeadlineExceeded(
                        f"{shown_uri(what)}: no answer within {backoff.deadline:g} s ({error.message})",
                        error.remedy,
                    ) from error
            with self._lock:
                self._repeats += 1
            backoff.sleep(pause)
        return attempt()


def _behind(page: ListPage, last: str) -> str:
    """Where a listing goes on that has given ``page``."""
    ends = [last, *page.keys[-1:], *(prefix + _LAST_CHARACTER for prefix in page.prefixes[-1:])]
    return max(ends, key=lambda text: text.encode("utf-8", "surrogateescape"))


@dataclass(slots=True)
class Tally:
    """Sums for one verb: requests (failed ones included), failures, bytes that arrived, seconds."""

    requests: int = 0
    errors: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Counting:
    """Counts by verb: GET, HEAD, LIST (one for each page)."""

    def __init__(self, inner: ObjectStore, clock: Callable[[], float] = time.perf_counter) -> None:
        self._inner = inner
        self._describing = inner if isinstance(inner, Describing) else None
        self._clock = clock
        self._lock = threading.Lock()
        self._tallies = {"get": Tally(), "head": Tally(), "list": Tally()}
        self._latencies = {verb: Histogram() for verb in self._tallies}

    def __repr__(self) -> str:
        return f"Counting({self._inner!r}, {self._tallies})"

    @property
    def uri(self) -> str:
        """See ``protocols.ObjectStore``."""
        return self._inner.uri

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """See ``protocols.ObjectStore``."""
        pages = self._inner.list(prefix, start_after, delimiter)
        while (page := self._counted("list", lambda: next(pages, None))) is not None:
            yield page

    def head(self, key: str) -> ObjectInfo:
        """See ``protocols.ObjectStore``."""
        return self._counted("head", lambda: self._inner.head(key))

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """See ``protocols.ObjectStore``. Without length there is no request, and nothing is counted."""
        if length == 0:
            return b""
        return self._counted("get", lambda: self._inner.get_range(target, start, length))

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        """See ``describing.Describing``."""
        return None if self._describing is None else self._describing.describe(target, start, length)

    def sent(self, size: int, seconds: float, *, failed: bool, throttled: bool = False) -> None:
        """See ``describing.Counted``."""
        self._add("get", failed, size, seconds)

    def close(self) -> None:
        """See ``protocols.ObjectStore``."""
        self._inner.close()

    def statistics(self) -> dict[str, float]:
        """``get_requests``, ``get_errors``, ``get_bytes``, ``get_seconds``; the same for head and list."""
        with self._lock:
            return {
                f"{verb}_{name}": getattr(tally, name)
                for verb, tally in self._tallies.items()
                for name in Tally.__slots__
            }

    def latencies(self) -> dict[str, dict[str, float]]:
        """Seconds that requests took, failed ones included, by verb; see :class:`Histogram`."""
        with self._lock:
            return {verb: histogram.statistics() for verb, histogram in self._latencies.items()}

    def _counted(self, verb: str, call: Callable[[], T]) -> T:
        began = self._clock()
        size, failed = 0, 1
        try:
            result = call()
            failed = 0
            size = len(result) if isinstance(result, bytes) else 0
        finally:
            # The end of a listing is no request of its own.
            if failed or result is not None:
                self._add(verb, failed, size, self._clock() - began)
        return result

    def _add(self, verb: str, errors: int, size: int, seconds: float) -> None:
        tally = self._tallies[verb]
        with self._lock:
            tally.requests += 1
            tally.errors += errors
            tally.bytes += size
            tally.seconds += seconds
            self._latencies[verb].observe(seconds)
