"""Putting and removing objects: for publishing an index, all that this package ever changes in a bucket.

What may live here: the interface and its three ways. Who may touch it: whoever publishes something else.
It is no part of ``ObjectStore``: whatever mounts cannot write. Objects are at most some tens of MB
(an artefact goes in parts), so one PUT each is enough, and what was put is resumed part by part.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from ossmount.config import StoreSettings
from ossmount.errors import SettingsError, StoreError, StoreUnavailable
from ossmount.places import is_no_file
from ossmount.stores.file import encode_key
from ossmount.stores.oss_credentials import choose_credentials
from ossmount.stores.oss_endpoint import resolve_endpoint
from ossmount.stores.oss_sdk import SdkTransport
from ossmount.stores.s3_errors import from_boto
from ossmount.stores.s3_session import FALLBACK_REGION, make_client, make_session
from ossmount.stores.wrappers import Backoff
from ossmount.uris import FILE_ROOT, parse_uri


class ObjectUploader(Protocol):
    """Puts objects into one store, and removes them. Thread-safe."""

    def put(self, key: str, data: bytes) -> None:
        """Makes ``data`` the object ``key``, whole or not at all. Raises StoreError."""
        ...

    def delete(self, key: str) -> None:
        """Removes the object ``key``, if it is there. Raises StoreError."""
        ...

    def close(self) -> None:
        """Frees connections."""
        ...


def open_uploader(root_uri: str, settings: StoreSettings) -> ObjectUploader:
    """The uploader for the store with that root. No request is made. Raises SettingsError."""
    root, key = parse_uri(root_uri)
    scheme, _, bucket = root.partition("://")
    if key:
        raise SettingsError(f"{root_uri!r} is not the root of a store", f"write {root}")
    if root == FILE_ROOT:
        return _FileUploader()
    if scheme == "oss":
        return Repeating(_OssUploader(bucket, settings), settings.retries)
    if scheme == "s3":
        return Repeating(_S3Uploader(bucket, settings), settings.retries)
    raise SettingsError(f"{root}: nothing can be put there", "push to s3://, oss:// or file://")


class Repeating:
    """Repeats what failed with StoreUnavailable."""

    def __init__(
        self, inner: ObjectUploader, retries: int, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._inner, self._backoff, self._sleep = inner, Backoff(retries=retries), sleep

    def __repr__(self) -> str:
        return f"Repeating({self._inner!r}, retries={self._backoff.retries})"

    def put(self, key: str, data: bytes) -> None:
        """See :class:`ObjectUploader`."""
        self._repeated(lambda: self._inner.put(key, data))

    def delete(self, key: str) -> None:
        """See :class:`ObjectUploader`."""
        self._repeated(lambda: self._inner.delete(key))

    def _repeated(self, call: Callable[[], None]) -> None:
        for attempt in range(self._backoff.retries):
            try:
                return call()
            except StoreUnavailable:
                self._sleep(self._backoff.pause(attempt, throttled=False))
        return call()

    def close(self) -> None:
        """See :class:`ObjectUploader`."""
        self._inner.close()


class _S3Uploader:
    def __init__(self, bucket: str, settings: StoreSettings) -> None:
        session = make_session(settings)
        region = settings.region or session.region_name or FALLBACK_REGION
        self._bucket, self._client = bucket, make_client(session, settings, region)
        self._extra = {"RequestPayer": "requester"} if settings.requester_pays else {}

    def put(self, key: str, data: bytes) -> None:
        self._ask(
            key, lambda place: self._client.put_object(Body=data, ContentMD5=content_md5(data), **place)
        )

    def delete(self, key: str) -> None:
        self._ask(key, lambda place: self._client.delete_object(**place))

    def _ask(self, key: str, call: Callable[[dict[str, str]], object]) -> None:
        try:
            call({"Bucket": self._bucket, "Key": key, **self._extra})
        except (BotoCoreError, ClientError, HTTPError) as error:
            raise from_boto(error, self._bucket, key) from error

    def close(self) -> None:
        self._client.close()


class _OssUploader(SdkTransport):
    def __init__(self, bucket: str, settings: StoreSettings) -> None:
        super().__init__(resolve_endpoint(bucket, settings), choose_credentials(settings), settings)

    def put(self, key: str, data: bytes) -> None:
        headers = self._headers | {"Content-MD5": content_md5(data)}
        self._ask(key, lambda: self._bucket.put_object(key, data, headers=headers))

    def delete(self, key: str) -> None:
        self._ask(key, lambda: self._bucket.delete_object(key, headers=self._headers))


class _FileUploader:
    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        if is_no_file(path):
            raise StoreError(f"{path} is no regular file, which would be replaced", "name another place")
        beside = path.with_name(f".{path.name}.{os.getpid()}.{hashlib.sha256(data).hexdigest()[:8]}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(data)
            beside.replace(path)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}", "name another place") from error
        finally:
            beside.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot remove {path}: {error.strerror}", "see who owns it") from error

    def _path(self, key: str) -> Path:
        return Path("/") / os.fsdecode(encode_key(key))

    def close(self) -> None:
        """Nothing is held."""


def content_md5(data: bytes) -> str:
    """``Content-MD5`` (RFC 1864): the store refuses what arrived otherwise."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
