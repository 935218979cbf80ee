"""Pages of a listing as they follow each other: whether they lead to its end, and what an index can keep.

What may live here: what every listing of a bucket is asked, whoever received the page. No requests. Touch it
when a server is met whose listings go wrong in another way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import le

from ossmount.errors import StoreError, Unlistable
from ossmount.model import ListPage

_MOST = (1 << 63) - 1
"""Bytes of an object, and nanoseconds from 1970: what 64 bits hold."""


class PageOrder:
    """One listing of ``subject``. A server that ignores tokens gives its first page for ever."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._last = ""
        self._token = ""

    def __repr__(self) -> str:
        return f"PageOrder({self._subject}, {self._last!r})"

    def follow(self, page: ListPage, token: str) -> ListPage:
        """The next page, whose successor ``token`` asks for ("": none), fit for an index.

        Raises Unlistable where it leads back or is not in order, StoreError for a size that is none.
        """
        if page.keys and (self._last or token):
            keys = page.keys if not self._last else [self._last, *page.keys]
            if self._last == page.keys[-1] or not _in_order(keys):
                raise self._lost(f"after {self._last!r} comes {page.keys[0]!r} … {page.keys[-1]!r}")
        if token and token == self._token and not page.keys:
            raise self._lost("it answers the same token again and again")
        self._last = page.keys[-1] if page.keys else self._last
        self._token = token
        return self._fit(page)

    def _fit(self, page: ListPage) -> ListPage:
        """A time that 64 bits do not hold, as the year 1 of servers that know none, is no time."""
        if page.sizes and not 0 <= min(page.sizes) <= max(page.sizes) <= _MOST:
            key, size = next(_beyond(page))
            raise StoreError(
                f"{self._subject}: {key!r} has {size} bytes in the listing", "ask who runs the store"
            )
        if page.mtimes_ns and not -_MOST <= min(page.mtimes_ns) <= max(page.mtimes_ns) <= _MOST:
            times = [time if abs(time) <= _MOST else 0 for time in page.mtimes_ns]
            return dataclasses.replace(page, mtimes_ns=times)
        return page

    def _lost(self, why: str) -> Unlistable:
        return Unlistable(
            f"{self._subject}: the pages of the listing do not follow each other: {why}",
            "name the objects with --manifest or --objects",
        )


def _beyond(page: ListPage) -> Iterator[tuple[str, int]]:
    return ((key, size) for key, size in zip(page.keys, page.sizes, strict=True) if not 0 <= size <= _MOST)


def _in_order(keys: Sequence[str]) -> bool:
    """Text is compared like its UTF-8, but for bytes that are none."""
    if all(map(le, keys, islice(keys, 1, None))):
        return True
    coded = [key.encode("utf-8", "surrogateescape") for key in keys]
    return all(map(le, coded, islice(coded, 1, None)))
