"""Single GETs through libcurl, each sent by a thread that waits for its answer.

:mod:`ossmount.stores.curl_transfers` has hundreds under way in one thread. What may live here: sending one
request and receiving its answer, whatever that says. Touch it together with ``tests/store_suite``.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import pycurl

from ossmount.config import StoreSettings
from ossmount.stores.curl_handles import new_handle, trust
from ossmount.stores.range_get import SLOWEST_BYTES


class Answer(NamedTuple):
    """What came back, whatever it says; ``head`` as lines."""

    status: int
    body: bytes
    head: Sequence[bytes] = ()


class CurlGets:
    """Thread-safe; each thread that asks at the same time has a connection of its own."""

    def __init__(
        self, settings: StoreSettings, receive_bytes: int, proxy: str, ca: str | None, redirects: int = 0
    ) -> None:
        """``proxy`` "" is none, ``ca`` None whom the machine believes; ``redirects`` are followed."""
        self._settings, self._receive_bytes = settings, receive_bytes
        self._proxy, self._ca, self._redirects = proxy, ca, redirects
        self._idle: list[pycurl.Curl] = []

    def __repr__(self) -> str:
        return f"CurlGets({len(self._idle)} idle)"

    def get(self, url: str, lines: Sequence[str], seconds: float = 0.0, most: int = 0) -> Answer:
        """Sends one request with these header lines. Raises pycurl.error and UnicodeEncodeError.

        It may take ``seconds`` and give ``most`` bytes; 0 is no limit, but none may trickle.
        """
        curl = self._idle.pop() if self._idle else self._handle()
        pieces, head = list[bytes](), list[bytes]()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, [line.encode("latin-1") for line in lines])
        curl.setopt(pycurl.TIMEOUT_MS, int(seconds * 1000))
        curl.setopt(pycurl.MAXFILESIZE, most)
        curl.setopt(pycurl.WRITEFUNCTION, pieces.append)
        curl.setopt(pycurl.HEADERFUNCTION, head.append)
        try:
            curl.perform()  # a handle whose request failed is not used again
        except pycurl.error as error:
            number = curl.getinfo(pycurl.OS_ERRNO)
            reason = f" ({os.strerror(number)})" if number else ""
            raise pycurl.error(error.args[0], f"{error.args[-1]}{reason}") from error
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        self._idle.append(curl)
        return Answer(status, b"".join(pieces), head)

    def close(self) -> None:
        """Closes idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _handle(self) -> pycurl.Curl:
        curl = new_handle(self._settings, self._receive_bytes)
        curl.setopt(pycurl.LOW_SPEED_LIMIT, SLOWEST_BYTES)
        curl.setopt(pycurl.PATH_AS_IS, 1)
        curl.setopt(pycurl.FOLLOWLOCATION, bool(self._redirects))
        curl.setopt(pycurl.MAXREDIRS, self._redirects)
        curl.setopt(pycurl.PROXY, self._proxy)  # "": curl must not look for one in its own way
        trust(curl, self._ca)
        return curl


def environment_proxy(url: str) -> str:
    """The proxy that the environment names for ``url``; "" where it is to be reached without."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return ""
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all", "")
