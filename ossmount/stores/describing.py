"""GETs as values: what a store says of a request when somebody else is to send it.

A store that describes its GETs can have hundreds in flight without a thread for each
(:mod:`ossmount.stores.curl_transfers`). Describing never waits; where a request cannot be described at
once, ``get_range`` does it, and does also whatever went wrong. What may live here: those values, and keys
that are kept so that signing does not wait. No transfer library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable
from urllib.parse import quote

from ossmount.model import ObjectId
from ossmount.stores.etags import is_weak, wire_etag

Keys = TypeVar("Keys")

KEYS_LIFE = 30.0
"""Seconds for which keys serve without being asked for again; whoever expires them warns minutes before."""


class GetRequest(NamedTuple):
    """One GET. The answer is right if it is a 206 of the ``length`` bytes from ``start`` on, or a 200 where
    ``whole``, and its entity tag, if it has one, is ``etag`` (unless that is ""). ``signing`` is what the
    transfer is to sign with (AWS Signature V4): region, access key, secret key. ``ca``: a file of
    certificates, or None.
    """

    url: str
    headers: list[str]
    etag: str
    start: int
    length: int
    whole: bool
    signing: tuple[str, str, str] | None
    ca: str | None


@runtime_checkable
class Describing(Protocol):
    """A store whose GETs somebody else may send. Thread-safe, never waits."""

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        """The GET of ``get_range`` for ``length`` > 0; None where only ``get_range`` can do it now.

        Raises ValueError for an entity tag that no header holds: ``get_range`` says what is wrong with it.
        """
        ...


@runtime_checkable
class Counted(Describing, Protocol):
    """A describing store that counts what others send for it."""

    def sent(self, size: int, seconds: float, *, failed: bool, throttled: bool = False) -> None:
        """Is told of each request that was sent: bytes that arrived, the time it took, and whether the answer
        asks for fewer requests.
        """
        ...


class KeptKeys(Generic[Keys]):
    """Keys from ``ask``, which may wait for a network, kept for a little while for those who may not."""

    def __init__(self, ask: Callable[[], Keys], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._kept: tuple[Keys, float] | None = None

    def __repr__(self) -> str:
        return f"KeptKeys(kept={self._kept is not None})"

    def now(self) -> tuple[Keys] | None:
        """The keys, unless they are too old."""
        if (kept := self._kept) is None or self._clock() > kept[1]:
            return None
        return kept[:1]

    def renew(self) -> None:
        """Asks for keys where there are none now. Raises what ``ask`` raises."""
        if self.now() is None:
            keys = self._ask()
            self._kept = keys, self._clock() + KEYS_LIFE


def get_request(
    url: str,
    target: ObjectId,
    start: int,
    length: int,
    headers: Sequence[str] = (),
    signing: tuple[str, str, str] | None = None,
    ca: str | None = None,
) -> GetRequest:
    """The GET of a range of ``target``, which is at ``url``: Range and If-Match beside ``headers``.

    Raises ValueError where the entity tag would be more than a header: libcurl sends a line break as it is.
    """
    asked = [f"Range: bytes={start}-{start + length - 1}", *headers]
    if (etag := target.etag) and not is_weak(etag):
        if not etag.isprintable():
            raise ValueError(f"{etag!r} is no entity tag")
        asked.append(f"If-Match: {wire_etag(etag)}")
    whole = start == 0 and length == target.size
    return GetRequest(url, asked, etag, start, length, whole, signing, ca)


def url_path(key: str) -> str:
    """A key as AWS signs it: UTF-8, percent-encoded but for slashes and unreserved characters."""
    return quote(key.encode("utf-8", "surrogateescape"), safe="/~")
