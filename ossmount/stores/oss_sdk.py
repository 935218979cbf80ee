"""OSS through oss2: HEAD, bucket questions, and every request under ``--transport sdk``.

What may live here: calls of oss2. Touch it when oss2 changes.
"""

from __future__ import annotations

import contextlib
from typing import Any

import oss2
from oss2.credentials import Credentials as SdkCredentials
from oss2.credentials import CredentialsProvider
from urllib3.exceptions import HTTPError

from ossmount.config import StoreSettings
from ossmount.errors import StoreError
from ossmount.model import ListPage, ObjectInfo
from ossmount.stores.authorities import authorities_path
from ossmount.stores.bodies import pieces
from ossmount.stores.content_range import check_range
from ossmount.stores.etags import if_match
from ossmount.stores.list_xml import next_token
from ossmount.stores.oss_credentials import CredentialSource
from ossmount.stores.oss_endpoint import Endpoint
from ossmount.stores.oss_errors import refusal_of_sdk, translate
from ossmount.stores.oss_listing import PAGE_KEYS, Page

POOL_SIZE = 128
"""Connections kept: as many as threads may read at once."""

_MALFORMED = (ValueError, KeyError, TypeError, SyntaxError, OverflowError)
"""What oss2 lets pass where an answer is no XML (ElementTree's errors are SyntaxErrors) or a date is none."""


class _Provider(CredentialsProvider):  # type: ignore[misc]
    """oss2's interface to our credential sources."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    def get_credentials(self) -> SdkCredentials:
        """Asked for by oss2 before each request."""
        found = self._source.current()
        return SdkCredentials(*found) if found is not None else SdkCredentials()


class SdkTransport:
    """A bucket through oss2. Thread-safe."""

    def __init__(self, endpoint: Endpoint, source: CredentialSource, settings: StoreSettings) -> None:
        self._uri = f"oss://{endpoint.bucket}"
        self._source, self._timeout = source, settings.request_timeout
        self._headers = {"x-oss-request-payer": "requester"} if settings.requester_pays else {}
        self._session = oss2.Session(pool_size=POOL_SIZE)
        # requests alone has a list of its own; all others look there.
        self._session.session.verify = authorities_path()
        self._bucket = oss2.Bucket(
            _auth(source, settings),
            endpoint.base_url,
            endpoint.bucket,
            is_cname=endpoint.style == "cname",
            is_path_style=endpoint.style == "path",
            session=self._session,
            connect_timeout=(settings.connect_timeout, settings.request_timeout),
            enable_crc=False,  # ranges carry no checksum; whole objects are guarded by length and ETag
            region=endpoint.region or None,
            is_verify_object_strict=False,  # keys that begin with "?" are keys, and are sent encoded
        )

    def read(self, key: str, etag: str, start: int, length: int) -> bytes:
        """Bytes of one version of an object; fewer where it ends before, more where all of it comes."""
        headers = self._headers | {"x-oss-range-behavior": "standard"}
        if etag:
            headers["If-Match"] = if_match(etag, f"{self._uri}/{key}")
        span = (start, start + length - 1)
        answer = self._ask(key, lambda: self._bucket.get_object(key, span, headers=headers))
        with contextlib.closing(answer.resp.response) as response:
            check_range(answer.headers.get("content-range"), start, length, f"{self._uri}/{key}")
            # One byte more than was asked for: of a longer body they are not the right ones.
            data: bytes = self._ask(key, lambda: b"".join(pieces(response.raw, length + 1, self._timeout)))
            return data

    def head(self, key: str) -> ObjectInfo:
        """What the store tells of an object."""
        answer = self._ask(key, lambda: self._bucket.head_object(key, headers=self._headers))
        modified = (answer.last_modified or 0) * 1_000_000_000
        return ObjectInfo(key, answer.content_length or 0, answer.etag or "", modified)

    def list_page(self, prefix: str, start_after: str, delimiter: str, token: str) -> Page:
        """One page of the listing."""
        answer = self._ask(
            "",
            lambda: self._bucket.list_objects_v2(
                prefix,
                delimiter,
                continuation_token=token,
                start_after="" if token else start_after,
                max_keys=PAGE_KEYS,
                headers=self._headers,
            ),
        )
        found = answer.object_list
        page = ListPage(
            keys=[row.key for row in found],
            sizes=[row.size for row in found],
            etags=[row.etag for row in found],
            mtimes_ns=[row.last_modified * 1_000_000_000 for row in found],
            prefixes=answer.prefix_list,
        )
        return Page(page, next_token(answer.is_truncated, answer.next_continuation_token, self._uri))

    def close(self) -> None:
        """Closes the connections."""
        self._session.session.close()

    def _ask(self, key: str, call: Any) -> Any:
        subject = f"{self._uri}/{key}" if key else self._uri
        try:
            return call()
        except oss2.exceptions.OssError as error:
            raise translate(refusal_of_sdk(error), subject, self._source.description) from error
        except RuntimeError as error:  # oss2 does not find in an answer what it looks for
            raise StoreError(f"{subject}: not OSS's answer: {error}", "check --endpoint-url") from error
        except (OSError, AssertionError, HTTPError) as error:  # while a body is being read
            raise self._broken(subject, error) from error
        except _MALFORMED as error:
            raise StoreError(
                f"{subject}: not OSS's answer: {error!r}"[:300], "check --endpoint-url"
            ) from error

    def _broken(self, subject: str, error: Exception) -> StoreError:
        refusal = refusal_of_sdk(oss2.exceptions.RequestError(error))
        return translate(refusal, subject, self._source.description)


def _auth(source: CredentialSource, settings: StoreSettings) -> Any:
    if settings.no_sign_request:
        return oss2.AnonymousAuth()
    provider = _Provider(source)
    return oss2.ProviderAuthV4(provider) if settings.oss_signature == "v4" else oss2.ProviderAuth(provider)
