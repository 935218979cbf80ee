"""The OSS test server's memory: buckets, objects, their order, and listings of them.

What may live here: storage without HTTP. Touch it when an operation needs to remember something new.
"""

from __future__ import annotations

import hashlib
import threading
import time
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from tests.servers.oss_server_answers import Fault, ListedObject, Listing


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Bytes, their ETag (upper-case MD5 without quotes, as OSS gives it), and the time of the PUT."""

    data: bytes
    etag: str
    modified: float


@dataclass(slots=True)
class Bucket:
    """One bucket. ``public`` lets anonymous requests read."""

    name: str
    public: bool = False
    objects: dict[str, StoredObject] = field(default_factory=dict)
    ordered: list[str] | None = None
    """The keys in the order of their UTF-8 bytes, which is that of their code points; None: not sorted."""

    def keys(self) -> list[str]:
        """All keys in order."""
        if self.ordered is None:
            self.ordered = sorted(self.objects)
        return self.ordered


class Buckets:
    """All buckets of a server. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}

    def create(self, name: str, public: bool = False) -> None:
        """Makes the bucket where it is missing."""
        with self._lock:
            self._buckets.setdefault(name, Bucket(name)).public = public

    def bucket(self, name: str) -> Bucket:
        """Raises Fault NoSuchBucket."""
        try:
            return self._buckets[name]
        except KeyError:
            raise Fault(404, "NoSuchBucket", "The specified bucket does not exist.") from None

    def put(self, bucket: str, key: str, data: bytes, modified: float | None = None) -> StoredObject:
        """Stores an object; a key keeps its place in the order."""
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest().upper()
        stored = StoredObject(data, etag, time.time() if modified is None else modified)
        with self._lock:
            target = self.bucket(bucket)
            if key not in target.objects:
                target.ordered = None
            target.objects[key] = stored
        return stored

    def get(self, bucket: str, key: str) -> StoredObject:
        """Raises Fault NoSuchBucket, NoSuchKey."""
        try:
            return self.bucket(bucket).objects[key]
        except KeyError:
            raise Fault(404, "NoSuchKey", "The specified key does not exist.") from None

    def delete(self, bucket: str, key: str) -> None:
        """Forgets an object; a missing one is no error."""
        with self._lock:
            target = self.bucket(bucket)
            target.objects.pop(key, None)
            target.ordered = None

    def list(self, bucket: str, prefix: str, start: str, delimiter: str, max_keys: int) -> Listing:
        """One page of keys greater than ``start``; a ``start`` that is a common prefix skips all of it."""
        with self._lock:
            target = self.bucket(bucket)
            keys = target.keys()
            rows = _page(keys, prefix, start, delimiter, max_keys + 1)
            found = rows[:max_keys]
            objects = [_row(key, target.objects[key]) for key, is_prefix in found if not is_prefix]
        prefixes = [name for name, is_prefix in found if is_prefix]
        following = found[-1][0] if len(rows) > max_keys and found else ""
        return Listing(bucket, prefix, delimiter, start, max_keys, objects, prefixes, following)


def _row(key: str, stored: StoredObject) -> ListedObject:
    return ListedObject(key, len(stored.data), stored.etag, stored.modified)


def _page(keys: list[str], prefix: str, start: str, delimiter: str, limit: int) -> list[tuple[str, bool]]:
    """Up to ``limit`` names in order: keys, and (True) common prefixes."""
    rows: list[tuple[str, bool]] = []
    at = max(bisect_left(keys, prefix), bisect_right(keys, start))
    while at < len(keys) and len(rows) < limit and keys[at].startswith(prefix):
        cut = keys[at].find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            rows.append((keys[at], False))
            at += 1
            continue
        common = keys[at][: cut + len(delimiter)]
        if common != start:
            rows.append((common, True))
        while at < len(keys) and keys[at].startswith(common):
            at += 1
    return rows
