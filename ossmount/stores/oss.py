"""``oss://``: Alibaba Cloud OSS as an ObjectStore, by a native transport or by the vendor's SDK.

What may live here: which transport answers what. Touch it when a transport is added.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from ossmount.config import StoreSettings
from ossmount.errors import AccessDenied, ObjectMissing, StoreError, StoreUnavailable
from ossmount.model import ListPage, ObjectId, ObjectInfo
from ossmount.stores.describing import GetRequest
from ossmount.stores.oss_credentials import METADATA_URL, choose_credentials
from ossmount.stores.oss_endpoint import resolve_endpoint
from ossmount.stores.oss_errors import printable
from ossmount.stores.oss_listing import Page
from ossmount.stores.oss_native import NativeTransport
from ossmount.stores.oss_sdk import SdkTransport
from ossmount.stores.page_order import PageOrder


def addressable(key: str) -> bool:
    """False for keys that no HTTP client asks for: they remove the path segments ``.`` and ``..``, and what
    is no UTF-8 has no URL.
    """
    return key not in {"", ".", ".."} and is_text(key)


def is_text(name: str) -> bool:
    """Whether it is UTF-8: names of local files, and arguments, may hold other bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


Transport = NativeTransport | SdkTransport
T = TypeVar("T")


class OssStore:
    """A bucket of OSS. Thread-safe; must not cross a fork.

    ``metadata_url`` is where keys of an ECS RAM role come from (tests give their own).
    """

    def __init__(self, bucket: str, settings: StoreSettings, metadata_url: str = METADATA_URL) -> None:
        endpoint = resolve_endpoint(bucket, settings)
        source = choose_credentials(settings, metadata_url)
        self._uri = f"oss://{bucket}"
        self._description = f"{self._uri} at {endpoint.base_url} with {source.description}"
        self._sdk = SdkTransport(endpoint, source, settings)
        self._native = NativeTransport(endpoint, source, settings) if settings.transport == "native" else None

    def __repr__(self) -> str:
        return f"OssStore({self._description})"

    @property
    def uri(self) -> str:
        """``oss://bucket``."""
        return self._uri

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """Pages of up to 1,000 keys. Raises BucketMissing, AccessDenied, StoreUnavailable, and StoreError
        for a name that is no text.
        """
        if not is_text(prefix + start_after):
            raise _unaddressable(f"{self._uri}/{prefix}")
        token, more, order = "", True, PageOrder(self._uri)
        while more:
            page, token = self._ask(_page_request(prefix, start_after, delimiter, token), (AccessDenied,))
            page, more = order.follow(page, token), bool(token)
            if page.keys or page.prefixes:
                yield page

    def head(self, key: str) -> ObjectInfo:
        """Raises ObjectMissing, BucketMissing, AccessDenied, StoreUnavailable."""
        self._check(key)
        return self._ask(lambda transport: transport.head(key), (AccessDenied, ObjectMissing))

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """See :class:`ossmount.protocols.ObjectStore`."""
        if length == 0:
            return b""
        self._check(target.key)
        if target.etag and start + length > target.size:
            # OSS answers a range that leaves the object with the whole object: never ask for one.
            raise StoreUnavailable(
                f"{self._uri}/{target.key}: bytes behind its end ({target.size}) were asked"
            )
        self.prepare()
        data = self._ask(
            lambda transport: transport.read(target.key, target.etag, start, length), (AccessDenied,)
        )
        if len(data) != length:
            raise StoreUnavailable(f"{self._uri}/{target.key}: {len(data)} bytes came instead of {length}")
        return data

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        """See ``describing.Describing``."""
        if self._native is None or not addressable(target.key) or start + length > target.size:
            return None
        return self._native.describe(target, start, length)

    def prepare(self) -> None:
        """Asks for the keys that reads are signed with. Raises AccessDenied."""
        if self._native is not None:
            self._native.renew_keys()

    def close(self) -> None:
        """Closes connections."""
        if self._native is not None:
            self._native.close()
        self._sdk.close()

    def _ask(self, request: Callable[[Transport], T], doubted: tuple[type[StoreError], ...]) -> T:
        """The native transport's answer, or oss2's where the native one met an error that is in doubt.

        AccessDenied: a bucket's policy may refuse signatures in the URL, while oss2 puts its own into the
        header. Errors of HEAD: they have no body that says why, while oss2 reads OSS's header for it. What
        oss2 is told is the answer to report.
        """
        if self._native is not None:
            with contextlib.suppress(*doubted):
                return request(self._native)
        return request(self._sdk)

    def _check(self, key: str) -> None:
        if not addressable(key):
            raise _unaddressable(f"{self._uri}/{key}")


def _unaddressable(uri: str) -> StoreError:
    return StoreError(
        f"{printable(uri)}: HTTP cannot ask for an object of this name", "copy it to another key"
    )


def _page_request(prefix: str, start_after: str, delimiter: str, token: str) -> Callable[[Transport], Page]:
    return lambda transport: transport.list_page(prefix, start_after, delimiter, token)
