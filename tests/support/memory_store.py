"""An object store in a dict, for tests: implements ``ossmount.protocols.ObjectStore`` fully.

It counts requests by verb, speaks If-Match, lists in pages, and fails on demand. Tests may change its
contents while it is in use (``put``, ``delete``).
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from ossmount.errors import BucketMissing, ObjectChanged, ObjectMissing, StoreUnavailable
from ossmount.model import ListPage, ObjectId, ObjectInfo
from ossmount.uris import FILE_ROOT

Fault = Callable[[str, str], None]
"""``fault(verb, key)`` is called before every request and may raise; verbs: LIST, HEAD, GET."""

EPOCH_NS = 1_700_000_000_000_000_000
"""Last-Modified of what the store was made with; each later put is a second newer."""


class MemoryStore:
    """``MemoryStore("s3://b", {"a/x": b"..."})``; ``requests["GET"]`` counts, ``log`` has all in order."""

    def __init__(
        self,
        uri: str,
        objects: Mapping[str, bytes] | None = None,
        *,
        page_size: int = 1000,
        fault: Fault | None = None,
    ) -> None:
        self.uri = uri
        self.page_size = page_size
        self.fault = fault
        self.requests: Counter[str] = Counter()
        self.log: list[tuple[str, str]] = []
        self.closed = False
        self._lock = threading.Lock()
        self._data: dict[str, bytes] = dict(objects or {})
        self._mtimes = dict.fromkeys(self._data, EPOCH_NS)
        self._changes = 0
        self._sorted: list[str] | None = None

    def __repr__(self) -> str:
        return f"MemoryStore({self.uri!r}, {len(self._data)} objects, {dict(self.requests)})"

    def put(self, key: str, data: bytes) -> ObjectInfo:
        with self._lock:
            self._changes += 1
            self._sorted = None
            self._data[key] = data
            self._mtimes[key] = EPOCH_NS + self._changes * 1_000_000_000
            return self._info(key)

    def delete(self, key: str) -> None:
        with self._lock:
            self._sorted = None
            del self._data[key]

    def id_of(self, key: str) -> ObjectId:
        """The present version of ``key``, without counting a request."""
        with self._lock:
            info = self._info(key)
        return ObjectId(self.uri, key, info.etag, info.size)

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """One LIST is counted for each page, and none before the first page is taken."""
        after = _order(start_after)
        while True:
            self._request("LIST", prefix)
            with self._lock:
                rows = self._rows(prefix, after, delimiter)
                page, more = rows[: self.page_size], len(rows) > self.page_size
                infos = [self._info(row) for row, is_prefix in page if not is_prefix]
            yield ListPage(
                [info.key for info in infos],
                [info.size for info in infos],
                [info.etag for info in infos],
                [info.mtime_ns for info in infos],
                [row for row, is_prefix in page if is_prefix],
            )
            if not more:
                return
            row, is_prefix = page[-1]
            # No key of a finished common prefix may come again: 0xff is above every UTF-8 byte.
            after = _order(row) + (b"\xff" if is_prefix else b"")

    def head(self, key: str) -> ObjectInfo:
        self._request("HEAD", key)
        with self._lock:
            self._must_have(key)
            return self._info(key)

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        if length == 0:
            return b""
        self._request("GET", target.key)
        with self._lock:
            self._must_have(target.key)
            info, data = self._info(target.key), self._data[target.key]
        if target.etag and info.etag != target.etag:
            raise ObjectChanged(f"{self.uri}/{target.key} has ETag {info.etag}, not {target.etag}")
        if start + length > len(data):
            raise StoreUnavailable(f"{self.uri}/{target.key}: short answer")
        return data[start : start + length]

    def close(self) -> None:
        self.closed = True

    def _request(self, verb: str, key: str) -> None:
        if self.closed:
            raise RuntimeError(f"{self!r} is closed")
        with self._lock:
            self.requests[verb] += 1
            self.log.append((verb, key))
        if self.fault is not None:
            self.fault(verb, key)

    def _rows(self, prefix: str, after: bytes, delimiter: str) -> list[tuple[str, bool]]:
        """Keys and common prefixes behind ``after``, one more than a page holds."""
        if self._sorted is None:
            self._sorted = sorted(self._data, key=_order)
        keys, rows = self._sorted, list[tuple[str, bool]]()
        first = max(
            bisect.bisect_right(keys, after, key=_order),
            bisect.bisect_left(keys, _order(prefix), key=_order),
        )
        for key in itertools.islice(keys, first, None):
            if not key.startswith(prefix):
                break
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            row = (key, False) if end < 0 else (key[: end + len(delimiter)], True)
            if not rows or rows[-1] != row:
                rows.append(row)
            if len(rows) > self.page_size:
                break
        return rows

    def _must_have(self, key: str) -> None:
        if key not in self._data:
            raise ObjectMissing(f"{self.uri}/{key} does not exist")

    def _info(self, key: str) -> ObjectInfo:
        data = self._data[key]
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return ObjectInfo(key, len(data), etag, self._mtimes[key])


def opener(*stores: MemoryStore) -> Callable[[str], MemoryStore]:
    """An ``OpenStore`` that knows ``stores`` and no other but local files, which it allows to be read."""
    by_uri = {FILE_ROOT: MemoryStore(FILE_ROOT, {}), **{store.uri: store for store in stores}}

    def open_store(uri: str) -> MemoryStore:
        if uri not in by_uri:
            raise BucketMissing(f"{uri} does not exist")
        return by_uri[uri]

    return open_store


def fail_first(times: int, error: BaseException, verbs: Iterable[str] = ("LIST", "HEAD", "GET")) -> Fault:
    """A fault that raises ``error`` on the first ``times`` requests of ``verbs``."""
    wanted, lock, left = frozenset(verbs), threading.Lock(), [times]

    def fault(verb: str, key: str) -> None:
        del key
        if verb not in wanted:
            return
        with lock:
            left[0] -= 1
            fails = left[0] >= 0
        if fails:
            raise error

    return fault


def _order(key: str) -> bytes:
    """Stores order keys by their UTF-8 bytes; undecodable local names pass through."""
    return key.encode("utf-8", "surrogateescape")
