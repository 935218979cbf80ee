"""Many GETs at once from one thread: those that a store describes, sent in the cheapest way there is.

What may live here: the choice between the ways. Touch it together with ``tests/store_suite``.

An answer that is not exactly what was asked for is dropped, whatever it says: the caller then asks again
through ``ObjectStore.get_range``, which knows errors, retries and redirects.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from ossmount.config import StoreSettings
from ossmount.model import ObjectId
from ossmount.protocols import Sink
from ossmount.stores.curl_transfers import CurlTransfers
from ossmount.stores.describing import Counted
from ossmount.stores.range_get import Arrived, RangeGet, Trust
from ossmount.stores.resolving import Resolver
from ossmount.stores.socket_transfers import SocketTransfers


class RangeTransfers:
    """See ``protocols.Transfers``. Belongs to one thread, and to the process that made it.

    ``find_store`` must not wait: it gives None for a store that is not open yet.
    """

    def __init__(
        self,
        find_store: Callable[[str], Counted | None],
        settings: StoreSettings,
        *,
        resolver: Resolver | None = None,
    ) -> None:
        self._find_store = find_store
        self._trust = Trust()
        self._curl = CurlTransfers(settings)
        self._sockets = SocketTransfers(settings, self._begin_by_curl, resolver=resolver)
        self._epoll = select.epoll()
        self._epoll.register(self._curl, select.EPOLLIN)
        self._epoll.register(self._sockets, select.EPOLLIN)

    def __repr__(self) -> str:
        return f"RangeTransfers({self._curl!r}, {self._sockets!r})"

    def fileno(self) -> int:
        """See ``protocols.Transfers``."""
        return self._epoll.fileno()

    def start(
        self, target: ObjectId, start: int, length: int, arrived: Arrived, sink: Sink | None = None
    ) -> bool:
        """See ``protocols.Transfers``."""
        store = self._find_store(target.store)
        if store is None or not self._trust.has(target.store):
            return False
        try:
            request = store.describe(target, start, length)
            if request is None:
                return False
            get = RangeGet(request, store, target.store, self._trust, arrived, sink)
            return self._sockets.begin(get) or self._curl.begin(get)
        except ValueError:  # an entity tag or keys that no request can carry: the ordinary way says so
            return False

    def work(self) -> bool:
        """See ``protocols.Transfers``."""
        some = self._sockets.work()
        return self._curl.work() or some

    def close(self) -> None:
        """See ``protocols.Transfers``."""
        self._sockets.close()
        self._curl.close()
        self._epoll.close()

    def _begin_by_curl(self, get: RangeGet) -> None:
        """Sends what the sockets could not. Where curl cannot either, who asked is told at once."""
        if not self._curl.begin(get):
            get.end(0, None)
