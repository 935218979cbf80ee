"""``https://host[:port]`` for object lists: HEAD and ranges of any web server.

What may live here: the one store without a vendor. Touch it when a server is met that answers ranges in
another way.

Identity. A strong ETag is sent as If-Match. A weak one (``W/``) can not be (RFC 9110, section 13.1.1),
so it is compared with the answer's. A server without ETags gives Last-Modified instead: the identity is
then ``modified:`` and that date, sent as If-Unmodified-Since and compared with the answer's; a change
within the same second stays unseen. With neither, the identity is empty, and only the number of bytes is
checked.

Keys are path and query as they go over the wire; a space or another character that may not stand there
is percent-encoded by urllib3, existing escapes are kept.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import unquote

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import make_headers, parse_url

from ossmount.config import StoreSettings
from ossmount.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectMissing,
    SourceError,
    StoreError,
    StoreUnavailable,
    Throttled,
)
from ossmount.model import ListPage, ObjectId, ObjectInfo
from ossmount.stores.authorities import authorities_for
from ossmount.stores.bodies import pieces
from ossmount.stores.content_range import check_range
from ossmount.stores.describing import GetRequest, get_request
from ossmount.stores.etags import check_sendable, if_match, is_weak, plain_etag
from ossmount.uris import shown_uri

MODIFIED: Final = "modified:"
"""Begins an identity that is a Last-Modified date."""

POOL = 128
"""Connections kept to the host: as many as the fetcher's requests in flight (``max_requests``)."""

_UNSATISFIABLE = 416
_TIMED_OUT = 408

_LENGTH = re.compile(r"[0-9]{1,18}")
_ODD = re.compile(r"[^A-Za-z0-9/._~?&=+:,;@!$'()*-]")
"""What urllib3 encodes, or may keep because it is encoded already."""


class HttpStore:
    """One host. Redirects are followed; proxies come from the environment (``https_proxy``)."""

    def __init__(
        self, root: str, settings: StoreSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.uri = root
        self._timeout, self._clock = settings.request_timeout, clock
        self._pool = _pool(root, settings)

    def __repr__(self) -> str:
        return f"HttpStore({self.uri})"

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """Web servers have no listing. Raises SourceError."""
        raise SourceError(
            f"{self._shown(prefix)}: a web server cannot be listed",
            "give the files with --objects or --manifest",
        )

    def head(self, key: str) -> ObjectInfo:
        """See ``protocols.ObjectStore``. StoreError where the server tells no size."""
        answer = self._request("HEAD", key, {})
        answer.release_conn()
        if answer.status >= 300:
            raise self._refused(answer.status, key)
        size = answer.headers.get("content-length", "")
        if _LENGTH.fullmatch(size) is None:
            raise StoreError(f"{self._shown(key)}: the server tells no size", "give the size in the manifest")
        modified = answer.headers.get("last-modified", "")
        return ObjectInfo(key, int(size), identity(answer.headers), _nanoseconds(modified))

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """See ``protocols.ObjectStore``. A server that ignores Range costs the bytes before ``start``."""
        if length == 0:
            return b""
        condition = _condition(target.etag, self._shown(target.key))
        headers = {"Range": f"bytes={start}-{start + length - 1}", **condition}
        answer = self._request("GET", target.key, headers)
        try:
            if answer.status not in {200, 206}:
                raise self._refused(answer.status, target.key)
            if target.etag and (now := identity(answer.headers)) and now != target.etag:
                raise self._changed(target.key)
            if answer.status == 206:
                check_range(answer.headers.get("content-range"), start, length, self._shown(target.key))
            return self._body(answer, target, start if answer.status == 200 else 0, length)
        except HTTPError as error:
            raise self._unavailable(error, target.key) from error
        finally:
            # An answer that was not read to its end is not worth reading: its connection is closed.
            if answer.length_remaining != 0:
                answer.close()
            answer.release_conn()

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        """See ``describing.Describing``: what needs neither encoding nor another condition than If-Match."""
        odd = is_weak(target.etag) or target.etag.startswith(MODIFIED) or _ODD.search(target.key)
        if odd or start + length > target.size:
            return None
        return get_request(self._url(target.key), target, start, length)

    def close(self) -> None:
        """See ``protocols.ObjectStore``."""
        self._pool.clear()

    def _body(self, answer: urllib3.BaseHTTPResponse, target: ObjectId, skip: int, length: int) -> bytes:
        data = bytearray()
        for piece in pieces(answer, skip + length, self._timeout, self._clock):
            data += piece[skip:]
            skip -= min(skip, len(piece))
        if len(data) != length:
            raise StoreUnavailable(
                f"{self._shown(target.key)}: {len(data)} of {length} bytes arrived", "the read is repeated"
            )
        return bytes(data)

    def _request(self, method: str, key: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        sent = {"Accept-Encoding": "identity", "User-Agent": "ossmount", **headers}
        try:
            return self._pool.request(
                method, self._url(key), headers=sent, preload_content=False, decode_content=False
            )
        except LocationParseError as error:
            raise ObjectMissing(f"{self._shown(key)} is not a URL", "correct the list") from error
        except HTTPError as error:
            if "Tunnel connection failed: 407" in str(error):  # all that urllib3 tells of it
                raise self._refused(407, key) from error
            raise self._unavailable(error, key) from error

    def _url(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _shown(self, key: str) -> str:
        return shown_uri(self._url(key))

    def _changed(self, key: str) -> ObjectChanged:
        return ObjectChanged(
            f"{self._shown(key)} has changed since it was listed", "rebuild or refresh the index"
        )

    def _unavailable(self, error: Exception, key: str) -> StoreUnavailable:
        # What urllib3 says of a request that it gave up begins with its path and query; the reason has none.
        reason = " ".join(str(getattr(error, "reason", None) or error).split())[:200]
        return StoreUnavailable(f"{self._shown(key)}: {reason}", "check the host, the network and the proxy")

    def _refused(self, status: int, key: str) -> StoreError:
        url = self._shown(key)
        if status in {404, 410}:
            return ObjectMissing(f"{url} is not there ({status})", "correct the list")
        if status == 407:
            return AccessDenied(
                f"{url}: the proxy refuses ({status})",
                "write its user and password into http_proxy or https_proxy: http://USER:PASSWORD@HOST:PORT",
            )
        if status in {401, 403}:
            return AccessDenied(f"{url}: access denied ({status})", "http(s) is read without credentials")
        if status in {412, _UNSATISFIABLE}:
            return self._changed(key)
        if status in {429, 503}:
            return Throttled(f"{url}: the server asks for fewer requests ({status})", "lower the load")
        if status >= 500 or status == _TIMED_OUT:
            return StoreUnavailable(f"{url}: the server failed ({status})", "try again later")
        return StoreError(f"{url}: unexpected answer ({status})", "check the URL")


def identity(headers: urllib3.HTTPHeaderDict) -> str:
    """The identity of a representation, from its headers (see the header of this file)."""
    if etag := plain_etag(headers.get("etag")):
        return etag
    modified = headers.get("last-modified")
    return MODIFIED + modified if modified else ""


def _condition(etag: str, subject: str) -> dict[str, str]:
    if not etag or is_weak(etag):
        return {}
    if etag.startswith(MODIFIED):
        check_sendable(etag, subject)
        return {"If-Unmodified-Since": etag.removeprefix(MODIFIED)}
    return {"If-Match": if_match(etag, subject)}


def _nanoseconds(modified: str) -> int:
    """An HTTP date in nanoseconds since the epoch; 0 where there is none."""
    try:
        return round(parsedate_to_datetime(modified).timestamp()) * 1_000_000_000
    except (TypeError, ValueError):
        return 0


def _pool(root: str, settings: StoreSettings) -> urllib3.PoolManager:
    scheme, _, host = root.partition("://")
    timeout = urllib3.Timeout(connect=settings.connect_timeout, read=settings.request_timeout)
    # Redirects only: the Retrying wrapper owns all other retries.
    retries = urllib3.Retry(
        total=5, redirect=5, connect=0, read=0, status=0, other=0, respect_retry_after_header=False
    )
    file, folder = authorities_for(None)
    trust: dict[str, Any] = {"ca_certs": file, "ca_cert_dir": folder}
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        # As Latin-1, in which make_headers writes it, escapes stand for the bytes that they name.
        user = unquote(parse_url(proxy).auth or "", "latin-1")
        headers = make_headers(proxy_basic_auth=user) if user else {}
        return urllib3.ProxyManager(
            proxy, maxsize=POOL, timeout=timeout, retries=retries, proxy_headers=headers, **trust
        )
    return urllib3.PoolManager(maxsize=POOL, timeout=timeout, retries=retries, **trust)
