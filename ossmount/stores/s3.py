"""``s3://bucket``: boto3 for everything but the bytes, obstore for the bytes.

What may live here: the store itself; its parts stand in ``s3_session`` (boto3 set up), ``s3_native``
(obstore), ``s3_errors`` (translation) and ``list_xml`` (pages). ETags are kept without quotes; a weak
one keeps its ``W/`` (see ``etags``).
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from obstore.store import S3Store as NativeStore
from urllib3.exceptions import HTTPError

from ossmount.config import StoreSettings
from ossmount.errors import ObjectMissing, StoreError, StoreUnavailable
from ossmount.model import ListPage, ObjectId, ObjectInfo
from ossmount.stores import s3_native
from ossmount.stores.addresses import Address
from ossmount.stores.bodies import pieces
from ossmount.stores.content_range import check_range
from ossmount.stores.describing import GetRequest, KeptKeys
from ossmount.stores.etags import if_match, is_weak, plain_etag
from ossmount.stores.list_xml import next_token, read_list_page
from ossmount.stores.page_order import PageOrder
from ossmount.stores.s3_errors import (
    MALFORMED,
    MISSIGNED,
    REDIRECT,
    changed,
    from_boto,
    from_native,
    is_redirect,
    native_answer,
)
from ossmount.stores.s3_pages import QuickPages
from ossmount.stores.s3_session import (
    FALLBACK_REGION,
    S3Client,
    base_url,
    ca_bundle,
    discover_region,
    is_aws,
    make_client,
    make_session,
)

_BOTO_ERRORS = (BotoCoreError, ClientError, HTTPError, *MALFORMED)
_NATIVE_ERRORS = (BaseError, OSError, ValueError, RuntimeError)
PAGE_SIZE = 1000
"""Keys on a page: S3's own limit, said aloud because some compatible servers send many more."""

_PARSE_EVENT = "before-parse.*.ListObjectsV2"
"""With this wildcard botocore calls the reader before its own look for an error inside a 200, which
parses every page whole (10 µs a key). Elsewhere in the order the reader would be slower, not wrong."""

_PAGE = "OssmountPage"
"""Under this name a page that was read by ``list_xml`` travels through boto3's response."""


class S3Store:
    """A bucket. No request is made before the first one is needed."""

    def __init__(self, bucket: str, settings: StoreSettings) -> None:
        self.uri = f"s3://{bucket}"
        self._bucket = bucket
        self._settings = settings
        self._session = make_session(settings)
        self._native_reads = settings.transport == "native"
        self._lock = threading.Lock()
        self._region = settings.region or self._session.region_name or ""
        self._client_made: S3Client | None = None
        self._native_made: NativeStore | None = None
        self._address: Address | None = None
        self._extra: dict[str, Any] = {"RequestPayer": "requester"} if settings.requester_pays else {}
        self._bucket_seen = False
        self._quick = QuickPages(bucket, self.address, self._session.get_credentials, settings)
        self._keys = KeptKeys(self._ask_keys)

    def __repr__(self) -> str:
        return f"S3Store({self.uri}, transport={self._settings.transport}, region={self._region or '?'})"

    def list(self, prefix: str, start_after: str = "", delimiter: str = "") -> Iterator[ListPage]:
        """See ``protocols.ObjectStore``. Pages come from ``s3_pages``, or boto3 where that does not do."""
        request: dict[str, Any] = {
            "Bucket": self._bucket,
            "Prefix": prefix,
            "MaxKeys": PAGE_SIZE,
            **self._extra,
        }
        if start_after:
            request["StartAfter"] = start_after
        if delimiter:
            request["Delimiter"] = delimiter
        order = PageOrder(self.uri)
        while True:
            page, token = self._list_page(request)
            yield _after(order.follow(page, token), start_after)
            if not token:
                return
            request["ContinuationToken"] = token

    def head(self, key: str) -> ObjectInfo:
        """See ``protocols.ObjectStore``."""
        try:
            answer = self._client().head_object(Bucket=self._bucket, Key=key, **self._extra)
            mtime_ns = round(answer["LastModified"].timestamp() * 1e6) * 1000
            info = ObjectInfo(key, answer["ContentLength"], plain_etag(answer.get("ETag")), mtime_ns)
        except _BOTO_ERRORS as error:
            translated = from_boto(error, self._bucket, key, self._region)
            if isinstance(translated, ObjectMissing):
                self._check_bucket()
            raise translated from error
        self._bucket_seen = True
        return info

    def get_range(self, target: ObjectId, start: int, length: int) -> bytes:
        """See ``protocols.ObjectStore``."""
        if length == 0:
            return b""
        if self._native_reads and s3_native.holds(target.key):
            return self._native_range(target, start, length)
        return self._sdk_range(target, start, length)

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        """See ``describing.Describing``."""
        keys, address = self._keys.now(), self._address
        if keys is None or address is None or not self._native_reads or not s3_native.holds(target.key):
            return None
        return s3_native.describe_range(address, keys[0], self._settings, target, start, length)

    def prepare(self) -> None:
        """Finds out what a read needs, so that the first read need not. Sends a request only to find an
        AWS bucket's region. Raises StoreError, SettingsError.
        """
        if self._native_reads:
            self.address()
            self._keys.renew()

    def close(self) -> None:
        """See ``protocols.ObjectStore``."""
        self._quick.close()
        with self._lock:
            if self._client_made is not None:
                self._client_made.close()
            self._client_made = self._native_made = None

    def _client(self) -> S3Client:
        if (client := self._client_made) is not None:
            return client
        with self._lock:
            if self._client_made is None:
                client = make_client(self._session, self._settings, self._region or FALLBACK_REGION)
                if self._native_reads:
                    client.meta.events.register_first(_PARSE_EVENT, _read_page)
                self._client_made = client
            return self._client_made

    def _native(self) -> NativeStore:
        if (native := self._native_made) is not None:
            return native
        address = self.address()
        with self._lock:
            if self._native_made is None:
                self._native_made = s3_native.make_native(
                    self._session, self._settings, self._bucket, *address
                )
            return self._native_made

    def address(self) -> Address:
        """See ``addresses.Resolving``. On AWS obstore must know the region, which boto3 finds by itself."""
        if (known := self._address) is not None:
            return known
        client = self._client()
        with self._lock:
            if self._address is None:
                if not self._region and is_aws(client):
                    self._region = discover_region(client, self._bucket)
                region = self._region or FALLBACK_REGION
                url = base_url(make_client(self._session, self._settings, region), self._bucket)
                self._address = Address(url, region, ca_bundle(self._session))
            return self._address

    def use_address(self, address: Address) -> None:
        """See ``addresses.Resolving``."""
        self._address = address

    def _ask_keys(self) -> s3_native.S3Keys | None:
        if self._settings.no_sign_request:
            return None
        with self._lock:
            return s3_native.current_keys(self._session, self._bucket)

    def _list_page(self, request: dict[str, Any]) -> tuple[ListPage, str]:
        if self._native_reads and (quick := self._quick.page(request)) is not None:
            self._bucket_seen = True
            return quick
        try:
            answer: dict[str, Any] = self._client().list_objects_v2(**request)
            page = answer[_PAGE] if _PAGE in answer else _sdk_page(answer, self.uri)
        except _BOTO_ERRORS as error:
            raise from_boto(error, self._bucket, region=self._region) from error
        self._bucket_seen = True
        return page

    def _native_range(self, target: ObjectId, start: int, length: int) -> bytes:
        self._keys.renew()
        try:
            return s3_native.read_range(self._native(), target, start, length)
        except _NATIVE_ERRORS as error:
            if self._moved(error):
                return self._sdk_range(target, start, length)
            raise from_native(error, self._bucket, target.key, self._region) from error

    def _moved(self, error: Exception) -> bool:
        """Whether ``error`` says that the bucket is in another region and nobody insisted on this one.

        boto3 follows such an answer and this one read goes through it; the next makes obstore's client
        anew, for the region that the bucket is in: as the answer tells it, or as AWS does when asked.
        """
        answer = native_answer(error)
        redirected = answer.status in {301, 307} or answer.code in REDIRECT or is_redirect(error)
        told = answer.region if answer.code == MISSIGNED else ""
        if self._settings.region or not (told or (redirected and is_aws(self._client()))):
            return False
        with self._lock:
            if not told or told != self._region:  # else it was learned while this answer was on its way
                self._region, self._native_made, self._address = told, None, None
        return True

    def _sdk_range(self, target: ObjectId, start: int, length: int) -> bytes:
        request = dict(self._extra)
        if target.etag and not is_weak(target.etag):
            request["IfMatch"] = if_match(target.etag, f"{self.uri}/{target.key}")
        span = f"bytes={start}-{start + length - 1}"
        try:
            answer = self._client().get_object(Bucket=self._bucket, Key=target.key, Range=span, **request)
            with answer["Body"] as body:
                if target.etag and plain_etag(answer.get("ETag")) not in {"", target.etag}:
                    raise changed(f"{self.uri}/{target.key}")
                check_range(answer.get("ContentRange"), start, length, f"{self.uri}/{target.key}")
                # One byte more than was asked for: of a longer body they are not the right ones.
                data = b"".join(pieces(body, length + 1, self._settings.request_timeout))
        except _BOTO_ERRORS as error:
            raise from_boto(error, self._bucket, target.key, self._region) from error
        if len(data) != length:
            raise StoreUnavailable(
                f"{self.uri}/{target.key}: {len(data)} of {length} bytes arrived", "the read is repeated"
            )
        return data

    def _check_bucket(self) -> None:
        """Raises BucketMissing. A HEAD's 404 has no body, so it does not say which of the two is missing."""
        if self._bucket_seen:
            return
        try:
            self._client().head_bucket(Bucket=self._bucket)
        except _BOTO_ERRORS as error:
            translated = from_boto(error, self._bucket)
            if not isinstance(translated, StoreError) or type(translated) is StoreError:
                return
            raise translated from error
        self._bucket_seen = True


def _read_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Reads a page before botocore does, which then gets an empty one (event ``before-parse``)."""
    if response_dict["status_code"] != 200:
        return
    if (read := read_list_page(response_dict["body"])) is not None:
        customized_response_dict[_PAGE] = read
        response_dict["body"] = b"<ListBucketResult/>"


def _sdk_page(answer: dict[str, Any], subject: str) -> tuple[ListPage, str]:
    rows = answer.get("Contents", ())
    page = ListPage(
        [row["Key"] for row in rows],
        [row["Size"] for row in rows],
        [plain_etag(row.get("ETag")) for row in rows],
        [round(row["LastModified"].timestamp() * 1e6) * 1000 for row in rows],
        [row["Prefix"] for row in answer.get("CommonPrefixes", ())],
    )
    return page, next_token(answer.get("IsTruncated", False), answer.get("NextContinuationToken"), subject)


_utf8 = partial(str.encode, encoding="utf-8", errors="surrogatepass")


def _after(page: ListPage, start_after: str) -> ListPage:
    """The page without keys up to ``start_after``: not every compatible server knows StartAfter."""
    if not start_after or not page.keys or _utf8(page.keys[0]) > _utf8(start_after):
        return page
    first = bisect.bisect_right(page.keys, _utf8(start_after), key=_utf8)
    return ListPage(
        page.keys[first:], page.sizes[first:], page.etags[first:], page.mtimes_ns[first:], page.prefixes
    )
