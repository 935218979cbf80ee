"""Addresses of hosts for who may not wait: asked for in a thread, and there the next time.

What may live here: names of hosts and their addresses. Touch it when an endpoint changes its addresses more
often than a browser would notice.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ossmount.stores.wire import Place

log = logging.getLogger(__name__)

ADDRESS_LIFE = 60.0
"""Seconds for which an answer serves, as with curl; then it is asked for again beside its use."""

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
"""Family and where, as ``socket.connect`` takes it."""


class Resolver:
    """Keeps what ``ask`` (getaddrinfo) says. Belongs to one thread, and asks in others (``aside``)."""

    def __init__(
        self,
        ask: Callable[[Place], list[Address]] | None = None,
        aside: Callable[[Callable[[], None]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask or _addresses
        self._aside = aside or _in_thread
        self._clock = clock
        self._known: dict[Place, deque[Address]] = {}
        self._due: dict[Place, float] = {}

    def __repr__(self) -> str:
        return f"Resolver({len(self._known)} places)"

    def find(self, place: Place) -> Address | None:
        """An address of ``place``, each in turn; None as long as there is none."""
        now = self._clock()
        if now >= self._due.get(place, now):
            self._due[place] = now + ADDRESS_LIFE
            self._aside(partial(self._learn, place))
        known = self._known.get(place)
        if not known:
            return None
        known.rotate(-1)
        return known[-1]

    def _learn(self, place: Place) -> None:
        try:
            self._known[place] = deque(self._ask(place))
        except (OSError, UnicodeError):  # UnicodeError: a name that cannot be one
            log.debug("no address of %s", place.host, exc_info=True)


def _in_thread(job: Callable[[], None]) -> None:
    threading.Thread(target=job, name="ossmount-resolve", daemon=True).start()


def _addresses(place: Place) -> list[Address]:
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]
