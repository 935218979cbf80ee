"""OSS without its SDK: GET and LIST through libcurl, HEAD through opendal's HTTP client.

opendal has an ``oss`` service, but it signs V1 only (its ``OssConfig`` has no region), takes keys once, and
normalises paths: ``a//b``, ``/x`` or ``./x`` would be other objects. So each request gets a URL that carries
its own signature, V1 or V4, made from the keys of that moment, and any client can fetch it: opendal's
``http`` service for HEAD, and libcurl where there is a body, because opendal neither shows the headers of an
answer (its Content-Range has to be looked at) nor ends a body that trickles.

opendal keeps one runtime for the whole process: a process that has used this transport must not fork
children that use it too (they would wait for ever for threads that fork left behind).

What may live here: requests of OSS by clients that know nothing of it. Touch it when one of them changes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import opendal
import pycurl

from ossmount.config import StoreSettings
from ossmount.errors import StoreError, StoreUnavailable
from ossmount.model import ObjectId, ObjectInfo
from ossmount.stores.content_range import check_range
from ossmount.stores.curl_gets import Answer, CurlGets, environment_proxy
from ossmount.stores.curl_handles import version_of
from ossmount.stores.describing import GetRequest, KeptKeys, get_request
from ossmount.stores.etags import if_match
from ossmount.stores.oss_credentials import Credentials, CredentialSource
from ossmount.stores.oss_endpoint import Endpoint
from ossmount.stores.oss_errors import Refusal, refusal_of_answer, refusal_of_native, translate
from ossmount.stores.oss_listing import Page, page_parameters, parse_page
from ossmount.stores.oss_signing import signed_url
from ossmount.stores.range_get import longest

PLACEHOLDER = "x"
"""opendal appends a path to its endpoint. The endpoint given to it ends in ``#``, so this is a fragment,
and fragments are not sent."""


RECEIVE_BYTES = 512 << 10
"""libcurl's buffer, as in ``s3_pages``: each piece that is handed over takes the interpreter lock."""

SMALLEST_LIMIT = 64 << 10
"""Bytes that any answer to a GET may have: an error has a body, too."""

REDIRECTS = 5
"""Followed at most: OSS sends who asks for objects that it mirrors to where they come from."""


class NativeFailure(Exception):
    """An error of opendal without the URL, whose signature is a secret for some minutes."""


class NativeTransport:
    """A bucket through libcurl and opendal. Thread-safe."""

    def __init__(self, endpoint: Endpoint, source: CredentialSource, settings: StoreSettings) -> None:
        self._endpoint = endpoint
        self._source = source
        self._version = settings.oss_signature
        self._always = {"x-oss-request-payer": "requester"} if settings.requester_pays else {}
        self._keys = KeptKeys(source.current)
        self._timeout = settings.request_timeout
        proxy = environment_proxy(endpoint.url(""))
        self._gets = CurlGets(settings, RECEIVE_BYTES, proxy, None, redirects=REDIRECTS)
        self._timeouts = opendal.layers.TimeoutLayer(
            timeout=settings.request_timeout, io_timeout=settings.request_timeout
        )

    def read(self, key: str, etag: str, start: int, length: int) -> bytes:
        """Bytes of one version of an object. Raises StoreError."""
        subject = self._subject(key)
        lines = [f"Range: bytes={start}-{start + length - 1}"]
        if etag:
            lines.append(f"If-Match: {if_match(etag, subject)}")
        seconds, most = longest(self._timeout, length), max(length, SMALLEST_LIMIT)
        answer = self._get(key, {}, lines, seconds, most)
        found, content_range = version_of(answer.head)
        if etag and found not in {"", etag}:
            raise self._told(key, Refusal(412))
        if answer.status == _PARTIAL:
            check_range(content_range, start, length, subject)
        elif start:
            raise StoreUnavailable(f"{subject}: the whole object came instead of a part", "look at proxies")
        return answer.body

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        """See ``describing.Describing``."""
        if (keys := self._keys.now()) is None:
            return None
        url = self._url("GET", target.key, {}, keys[0])
        return get_request(url, target, start, length)

    def renew_keys(self) -> None:
        """Keys for :meth:`describe`, if they are due. Raises AccessDenied."""
        self._keys.renew()

    def head(self, key: str) -> ObjectInfo:
        """What the store tells of an object. Raises StoreError, without a code: HEAD has no body."""
        try:
            found = self._operator("HEAD", key).stat(PLACEHOLDER)
        except OPENDAL_ERRORS as error:
            raise self._translated(key, error) from NativeFailure(type(error).__name__)
        modified = _nanoseconds(found.last_modified)
        return ObjectInfo(key, found.content_length, (found.etag or "").strip('"'), modified)

    def list_page(self, prefix: str, start_after: str, delimiter: str, token: str) -> Page:
        """One page of the listing. Raises StoreError."""
        parameters = page_parameters(prefix, start_after, delimiter, token)
        return parse_page(self._get("", parameters, ()).body, self._subject(""))

    def close(self) -> None:
        """Closes libcurl's idle connections; opendal's end with the process."""
        self._gets.close()

    def _get(
        self,
        key: str,
        parameters: Mapping[str, str],
        lines: Sequence[str],
        seconds: float = 0.0,
        most: int = 0,
    ) -> Answer:
        """The answer, if it is a success, as :meth:`CurlGets.get`. Raises StoreError."""
        url = self._url("GET", key, parameters, self._source.current())
        try:
            answer = self._gets.get(url, lines, seconds, most)
        except pycurl.error as error:
            raise self._told(key, Refusal(0, message=error.args[-1])) from error
        if answer.status not in {_WHOLE, _PARTIAL}:
            raise self._told(key, refusal_of_answer(answer.status, answer.body.decode("utf-8", "replace")))
        return answer

    def _operator(self, method: str, key: str) -> Any:
        """An operator for one URL. Making one costs some µs: the HTTP client behind them is shared."""
        url = self._url(method, key, {}, self._source.current())
        return opendal.Operator("http", endpoint=f"{url}#").layer(self._timeouts)

    def _url(self, method: str, key: str, parameters: Mapping[str, str], keys: Credentials | None) -> str:
        asked = {**parameters, **self._always}
        return signed_url(self._endpoint, self._version, keys, method, key, asked, time.time())

    def _translated(self, key: str, error: Exception) -> StoreError:
        return self._told(key, refusal_of_native(str(error)))

    def _told(self, key: str, refusal: Refusal) -> StoreError:
        return translate(refusal, self._subject(key), self._source.description, self._endpoint.base_url)

    def _subject(self, key: str) -> str:
        return f"oss://{self._endpoint.bucket}/{key}".removesuffix("/" if not key else "")


_WHOLE, _PARTIAL = 200, 206

OPENDAL_ERRORS = tuple(
    kind
    for kind in vars(opendal.exceptions).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
)
"""Everything that opendal raises; its exceptions have no common base of their own."""


def _nanoseconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) * 1_000_000_000 if moment is not None else 0
