"""Pages of one bucket's listing through libcurl: a twentieth of what boto3 spends on a page.

What may live here: LIST requests and what is made of their answers. botocore signs, :mod:`curl_gets` sends,
:mod:`list_xml` reads, and whatever is neither a plain success nor a store that is too busy is boto3's
business, which knows redirects, clocks and errors. Touch it together with ``tests/store_suite``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pycurl
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.utils import get_environ_proxies

from ossmount.config import StoreSettings
from ossmount.errors import StoreUnavailable
from ossmount.model import ListPage
from ossmount.stores.addresses import Address
from ossmount.stores.curl_gets import Answer, CurlGets
from ossmount.stores.list_xml import read_list_page
from ossmount.stores.s3_errors import from_boto, from_page

MISTRUST_AFTER = 3
"""Pages in a row that could not be had this way, after which boto3 is asked at once."""

RECEIVE_BYTES = 512 << 10
"""curl's buffer, more than a page of 1,000 keys: each piece that is handed over takes the interpreter lock,
which other threads hold meanwhile."""

_PASSING = frozenset(
    {pycurl.E_COULDNT_CONNECT, pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_OPERATION_TIMEDOUT}
    | {pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING, pycurl.E_PARTIAL_FILE}
)
"""Failures of the network, which boto3 would meet as well."""

_UNRESERVED = "-_.~"
"""What a signed query leaves as it is, by the rules of signature version 4."""

_QUERY = {
    "Prefix": "prefix",
    "MaxKeys": "max-keys",
    "StartAfter": "start-after",
    "Delimiter": "delimiter",
    "ContinuationToken": "continuation-token",
}
"""boto3's arguments of ListObjectsV2 and what they are called in the query."""


class QuickPages:
    """Thread-safe; each thread that asks at the same time has a connection of its own.

    ``address`` and ``credentials`` (botocore's, None where there are none) are asked for at the first page.
    """

    def __init__(
        self,
        bucket: str,
        address: Callable[[], Address],
        credentials: Callable[[], Any],
        settings: StoreSettings,
    ) -> None:
        self._bucket, self._settings = bucket, settings
        self._find_address, self._find_credentials = address, credentials
        self._lock = threading.Lock()
        self._requests: PageRequests | None = None
        self._missed = 0

    def __repr__(self) -> str:
        return f"QuickPages(s3://{self._bucket}, {self._missed} missed)"

    def page(self, request: Mapping[str, Any]) -> tuple[ListPage, str] | None:
        """The page for boto3's arguments of ListObjectsV2, and its continuation token ("" at the end).

        None: boto3 is to be asked. Raises Throttled, StoreUnavailable, and what the address or the
        credentials raise.
        """
        if self._missed >= MISTRUST_AFTER:
            return None
        try:
            answer = self._ready().get(_query(request), _headers(request))
        except (BotoCoreError, ClientError) as failure:  # the latter: STS refuses to renew
            raise from_boto(failure, self._bucket) from failure
        except pycurl.error as failure:
            if failure.args[0] in _PASSING:
                raise StoreUnavailable(
                    f"s3://{self._bucket}: {self._find_address().url} cannot be reached: {failure.args[-1]}",
                    "check --endpoint-url, the network and the proxy",
                ) from failure
            answer = Answer(0, b"")
        except UnicodeEncodeError:  # a name that no URL can carry: boto3 says so
            answer = Answer(0, b"")
        return self._read(answer)

    def _read(self, answer: Answer) -> tuple[ListPage, str] | None:
        page = read_list_page(answer.body) if answer.status == 200 else None
        if page is None and (error := from_page(answer.status, answer.body, self._bucket)) is not None:
            raise error
        self._missed = 0 if page is not None else self._missed + 1
        return page

    def close(self) -> None:
        """Closes idle connections."""
        if self._requests is not None:
            self._requests.close()

    def _ready(self) -> PageRequests:
        if (requests := self._requests) is not None:
            return requests
        address = self._find_address()
        with self._lock:
            if self._requests is None:
                credentials = None
                if not self._settings.no_sign_request:
                    credentials = self._find_credentials()
                    if credentials is None:
                        raise NoCredentialsError
                self._requests = PageRequests(address, credentials, self._settings)
            return self._requests


class PageRequests:
    """Requests to one address. Thread-safe."""

    def __init__(self, address: Address, credentials: Any, settings: StoreSettings) -> None:
        """``credentials`` None: requests are not signed."""
        self._address, self._credentials = address, credentials
        split = urlsplit(address.url)
        self._base = address.url if split.path else address.url + "/"
        proxy = get_environ_proxies(address.url).get(split.scheme, "")
        self._gets = CurlGets(settings, RECEIVE_BYTES, proxy, address.ca)

    def __repr__(self) -> str:
        return f"PageRequests({self._base}, {self._gets!r})"

    def get(self, parameters: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Sends one request. Raises pycurl.error, BotoCoreError (credentials), UnicodeEncodeError."""
        url = f"{self._base}?{urlencode(parameters, quote_via=quote, safe=_UNRESERVED)}"
        request = AWSRequest("GET", url, headers=dict(headers))
        if self._credentials is not None:
            frozen = self._credentials.get_frozen_credentials()
            S3SigV4Auth(frozen, "s3", self._address.region).add_auth(request)
        return self._gets.get(url, [f"{name}: {value}" for name, value in request.headers.items()])

    def close(self) -> None:
        """Closes idle connections."""
        self._gets.close()


def _query(request: Mapping[str, Any]) -> dict[str, str]:
    given = {name: str(request[argument]) for argument, name in _QUERY.items() if argument in request}
    return {"list-type": "2", "encoding-type": "url", **given}


def _headers(request: Mapping[str, Any]) -> dict[str, str]:
    payer = request.get("RequestPayer")
    return {"x-amz-request-payer": str(payer)} if payer else {}
