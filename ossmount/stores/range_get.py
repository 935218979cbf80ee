"""One GET that somebody sends: which answer is right, where its body goes, and who is told.

What may live here: what :mod:`curl_transfers` and :mod:`socket_transfers` have in common. No transfer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

from ossmount.protocols import Sink
from ossmount.stores.content_range import names_bytes
from ossmount.stores.describing import Counted, GetRequest

Arrived = Callable[[bytes | None], None]
"""Is given the body, or None where the request must be made another way."""

MISTRUST_AFTER = 16
"""Failures in a row after which a store is asked in the ordinary way …"""

MISTRUST_SECONDS = 30.0
"""… for so long: a proxy or a server that refuses these requests must not cost every read a second one."""

SLOWEST_BYTES = 16 << 10
"""A second, of a body that takes longer than the time-out: what trickles must not keep others waiting."""

_PARTIAL, _WHOLE = 206, 200
_THROTTLED = frozenset({429, 503})
"""Answers that ask for fewer requests, as in ``s3_errors`` and ``oss_errors``: both stores say 503."""


class Trust:
    """Which stores answer these requests as they should."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def has(self, root: str) -> bool:
        """Whether ``root`` may be asked so now."""
        until = self._until.get(root)
        return until is None or time.monotonic() > until

    def learn(self, root: str, succeeded: bool) -> None:
        """Is told of every request."""
        if succeeded:
            if self._failures:
                self._failures.pop(root, None)
            return
        failures = self._failures[root] = self._failures.get(root, 0) + 1
        if failures >= MISTRUST_AFTER:
            self._until[root] = time.monotonic() + MISTRUST_SECONDS
            self._failures[root] = 0


def longest(timeout: float, length: int) -> float:
    """Seconds that a body of ``length`` bytes may take, where one request may stand still for ``timeout``."""
    return timeout + length / SLOWEST_BYTES


class RangeGet:
    """A request under way. ``sink`` is given the body as it comes, and ``arrived`` then b""."""

    __slots__ = ("_arrived", "_began", "_root", "_store", "_trust", "poured", "request", "sink")

    def __init__(
        self,
        request: GetRequest,
        store: Counted,
        root: str,
        trust: Trust,
        arrived: Arrived,
        sink: Sink | None,
    ) -> None:
        self.request, self.sink = request, sink
        self.poured = 0
        """Bytes that the sink has."""
        self._store, self._root, self._trust, self._arrived = store, root, trust, arrived
        self._began = time.perf_counter()

    def __repr__(self) -> str:
        return f"RangeGet({self._root}, {self.poured} of {self.request.length} bytes)"

    def fits(self, status: int, etag: str, content_range: str) -> bool:
        """Whether an answer with this status, entity tag and Content-Range ("" for what it does not have)
        is the right one.
        """
        request = self.request
        if status == _PARTIAL:
            right = names_bytes(content_range, request.start, request.length)
        else:
            right = status == _WHOLE and request.whole
        return right and (not request.etag or not etag or etag == request.etag)

    def keep(self) -> Sink:
        """The sink; where there is none, one that keeps the body for who asked."""
        if self.sink is None:
            self.sink = Whole(self.request.length)
        return self.sink

    def longest(self, timeout: float) -> float:
        """Seconds that it may take in all, see :func:`longest`."""
        return longest(timeout, self.request.length)

    @property
    def missing(self) -> int:
        """Bytes that the sink does not have."""
        return self.request.length - self.poured

    def pour(self, piece: bytes) -> None:
        """Copies the next bytes to the sink (see :meth:`keep`), which has room for them."""
        self.poured += len(piece)
        pour(self.keep(), piece)

    def end(self, status: int, body: bytes | None) -> None:
        """Counts the request and tells who asked. ``body``: of the right answer (b"" where the sink has it),
        which may still be too short; None where none came. ``status`` 0: there was no answer.
        """
        size = 0 if body is None else len(body) or self.poured
        failed = body is None or size != self.request.length
        self._trust.learn(self._root, not failed)
        seconds = time.perf_counter() - self._began
        self._store.sent(size, seconds, failed=failed, throttled=status in _THROTTLED)
        if isinstance(self.sink, Whole):
            body = self.sink.body
        self._arrived(None if failed else body)


class Whole:
    """A body of ``length`` bytes in one piece (see ``protocols.Sink``)."""

    def __init__(self, length: int) -> None:
        self._memory = bytearray(length)
        self._room = memoryview(self._memory)

    @property
    def body(self) -> bytes:
        """What has come, to be read like ``bytes``: a copy of it would cost as much as all the rest."""
        return cast("bytes", self._memory)

    def room(self) -> memoryview:
        """See ``protocols.Sink``."""
        return self._room

    def came(self, count: int) -> None:
        """See ``protocols.Sink``."""
        self._room = self._room[count:]


def pour(sink: Sink, piece: bytes) -> None:
    """Copies ``piece`` into ``sink``, which must have room for all of it."""
    rest = memoryview(piece)
    while rest:
        room = sink.room()
        taken = min(len(rest), len(room))
        room[:taken] = rest[:taken]
        sink.came(taken)
        rest = rest[taken:]
