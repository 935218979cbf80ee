"""LIST requests of one bucket through libcurl: a twentieth of what boto3 spends on a page.

What may live here: sending the request and receiving the bytes. botocore signs, :mod:`list_xml` reads, and
whatever is not a plain success is boto3's business, which knows redirects, clocks and errors. Touch it
together with ``tests/store_suite``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import pycurl
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.httpsession import where
from botocore.utils import get_environ_proxies

from ossmount.config import StoreSettings
from ossmount.stores.addresses import Address

RECEIVE_BYTES = 512 << 10
"""curl's buffer, more than a page of 1,000 keys: each piece that is handed over takes the interpreter lock,
which other threads hold meanwhile."""

_UNRESERVED = "-_.~"
"""What a signed query leaves as it is, by the rules of signature version 4."""


class Answer(NamedTuple):
    """What came back, whatever it says."""

    status: int
    body: bytes


class PageRequests:
    """Thread-safe; each thread that asks at the same time has a connection of its own."""

    def __init__(self, address: Address, credentials: Any, settings: StoreSettings) -> None:
        """``credentials`` are botocore's, None for requests that are not signed."""
        self._address, self._credentials, self._settings = address, credentials, settings
        self._base = address.url if urlsplit(address.url).path else address.url + "/"
        proxies = get_environ_proxies(address.url)
        self._proxy = proxies.get(urlsplit(address.url).scheme, "")
        self._idle: list[pycurl.Curl] = []

    def __repr__(self) -> str:
        return f"PageRequests({self._base}, {len(self._idle)} idle)"

    def get(self, parameters: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Sends one request. Raises pycurl.error, BotoCoreError (credentials), UnicodeEncodeError."""
        url = f"{self._base}?{urlencode(parameters, quote_via=quote, safe=_UNRESERVED)}"
        request = AWSRequest("GET", url, headers=dict(headers))
        if self._credentials is not None:
            frozen = self._credentials.get_frozen_credentials()
            S3SigV4Auth(frozen, "s3", self._address.region).add_auth(request)
        curl = self._idle.pop() if self._idle else self._handle()
        pieces: list[bytes] = []
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in request.headers.items()])
        curl.setopt(pycurl.WRITEFUNCTION, pieces.append)
        curl.perform()  # a handle whose request failed is not used again
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        self._idle.append(curl)
        return Answer(status, b"".join(pieces))

    def close(self) -> None:
        """Closes idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _handle(self) -> pycurl.Curl:
        curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.PATH_AS_IS, 1)
        curl.setopt(pycurl.USERAGENT, "ossmount")
        curl.setopt(pycurl.BUFFERSIZE, RECEIVE_BYTES)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(self._settings.connect_timeout * 1000))
        curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
        curl.setopt(pycurl.LOW_SPEED_TIME, max(1, int(self._settings.request_timeout)))
        curl.setopt(pycurl.PROXY, self._proxy)  # "": curl must not look for one in its own way
        curl.setopt(pycurl.CAINFO, self._address.ca or where())
        return curl
