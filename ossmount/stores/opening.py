"""Opening stores by their root URI, and keeping one of each.

What may live here: the table of schemes and the pool. Touch it when a scheme is added. Every store is
imported when it is first opened: oss2, boto3 and their like take tenths of a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from ossmount.config import StoreSettings
from ossmount.errors import OssmountError, SettingsError
from ossmount.protocols import ObjectStore
from ossmount.stores.addresses import Address, Resolving
from ossmount.stores.authorities import ensure_authorities
from ossmount.stores.wrappers import Backoff, Counting, Retrying
from ossmount.uris import FILE_ROOT, HTTP_SCHEMES, parse_uri

HASTY_SECONDS = 3.0
"""For the one request that a mount may wait for before it serves."""

READ_DEADLINE = 120.0
"""Seconds one call may take with all its retries (default of ``read_deadline``)."""


def split_uri(uri: str) -> tuple[str, str]:
    """``(root, key)`` of a URI or a local path, as :func:`ossmount.uris.parse_uri`. Raises SettingsError."""
    return parse_uri(uri)


def open_store(root_uri: str, settings: StoreSettings) -> ObjectStore:
    """The bare store for ``s3://bucket``, ``oss://bucket``, ``file:///`` or ``https://host``.

    No request is made. Raises SettingsError for other URIs and for settings that cannot be used.
    """
    root, key = parse_uri(root_uri)
    scheme, _, place = root.partition("://")
    if key:
        raise SettingsError(f"{root_uri!r} is not the root of a store", f"write {root}")
    if root == FILE_ROOT:
        if not settings.local_files:
            raise SettingsError(f"{root_uri} may not be opened here", "name objects of a bucket only")
        from ossmount.stores.file import FileStore

        return FileStore()
    if scheme == "https" or (scheme not in HTTP_SCHEMES and not settings.plain_endpoint):
        ensure_authorities()
    if scheme in HTTP_SCHEMES:
        from ossmount.stores.http import HttpStore

        return HttpStore(root, settings)
    if scheme == "oss":
        from ossmount.stores.oss import OssStore

        return OssStore(place, settings)
    from ossmount.stores.s3 import S3Store

    return S3Store(place, settings)


def import_stores(root_uris: Iterable[str]) -> None:
    """Imports what the stores of these roots need, and opens nothing: for a process that forks readers.

    Each SDK takes a tenth of a second and ten megabytes, which forked processes then share.
    """
    for root in root_uris:
        scheme = root.partition("://")[0]
        if scheme == "s3":
            import_module("ossmount.stores.s3")
        elif scheme == "oss":
            import_module("ossmount.stores.oss")


def resolve_addresses(root_uris: Iterable[str], settings: StoreSettings) -> dict[str, Address]:
    """The addresses of the stores that have one; what fails is left out, and found out by the first read.

    A mount waits for this, so a store that does not answer is soon given up.
    """
    hasty = replace(
        settings,
        connect_timeout=min(settings.connect_timeout, HASTY_SECONDS),
        request_timeout=min(settings.request_timeout, HASTY_SECONDS),
    )
    found = {}
    for root in root_uris:
        with contextlib.suppress(OssmountError):
            store = open_store(root, hasty)
            if isinstance(store, Resolving):
                found[root] = store.address()
            store.close()
    return found


@runtime_checkable
class Preparing(Protocol):
    """A store that makes its client at its first request unless it is told to do so before."""

    def prepare(self) -> None:
        """Makes what a read needs. Raises StoreError, SettingsError."""
        ...


class StorePool:
    """An ``OpenStore``: one store for each root, counted and retried, opened at its first use.

    Thread-safe. Belongs to one process: made after a fork, never before. ``wrap`` puts one more store
    around each, inside of counting and retrying: it sees every single request. ``opened`` is told of each
    store before its first request.
    """

    def __init__(
        self,
        settings: StoreSettings,
        deadline: float = READ_DEADLINE,
        wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store,
        opened: Callable[[ObjectStore], object] = lambda store: None,
    ) -> None:
        self._settings = settings
        self._wrap = wrap
        self._opened = opened
        self._backoff = Backoff(retries=settings.retries, deadline=deadline)
        self._lock = threading.Lock()
        self._stores: dict[str, Retrying] = {}
        self._counters: list[Counting] = []
        self._bare: list[ObjectStore] = []
        self.on_throttled: Callable[[], None] = lambda: None
        """Called in any thread when a store asked for fewer requests, though the request is repeated."""

    def __repr__(self) -> str:
        return f"StorePool({sorted(self._stores)})"

    def __call__(self, root_uri: str) -> ObjectStore:
        """The store for ``root_uri``. Raises as :func:`open_store`."""
        if (store := self._stores.get(root_uri)) is not None:
            return store
        with self._lock:
            if root_uri not in self._stores:
                bare = open_store(root_uri, self._settings)
                self._opened(bare)
                self._bare.append(bare)
                counted = Counting(self._wrap(bare))
                self._counters.append(counted)
                self._stores[root_uri] = Retrying(counted, self._backoff, self._throttled)
            return self._stores[root_uri]

    def find(self, root_uri: str) -> Retrying | None:
        """The store if it is open. Never waits."""
        return self._stores.get(root_uri)

    def _throttled(self) -> None:
        self.on_throttled()

    def prepare(self, root_uris: Iterable[str]) -> None:
        """Opens these stores before a program waits for them: the first request may cost half a second.

        What fails is left to the first read, which reports it with its key.
        """
        for root in root_uris:
            with contextlib.suppress(OssmountError):
                self(root)
        for store in list(self._bare):
            if isinstance(store, Preparing):
                with contextlib.suppress(OssmountError):
                    store.prepare()

    def statistics(self) -> dict[str, float]:
        """Sums over all stores, named as in :meth:`Counting.statistics`. Retries count as requests."""
        total: Counter[str] = Counter()
        with self._lock:
            for counted in self._counters:
                total.update(counted.statistics())
        return dict(total)

    def details(self) -> dict[str, Any]:
        """``latency`` by verb (:meth:`Counting.latencies`), and ``repeats``, over all stores."""
        with self._lock:
            counters, stores = list(self._counters), list(self._stores.values())
        latency: dict[str, Counter[str]] = {}
        for counted in counters:
            for verb, histogram in counted.latencies().items():
                latency.setdefault(verb, Counter()).update(histogram)
        return {
            "latency": {verb: dict(histogram) for verb, histogram in latency.items()},
            "repeats": sum(store.repeats for store in stores),
        }

    def close(self) -> None:
        """Closes every store."""
        with self._lock:
            stores, self._stores = list(self._stores.values()), {}
        for store in stores:
            store.close()
