"""Ranges of S3 objects through obstore: a tenth of boto3's CPU, and without the interpreter lock.

What may live here: everything that knows obstore's S3 store. Touch it when obstore changes, together
with ``tests/store_suite``.

Left to boto3 on purpose:
- keys that obstore's paths cannot hold (:func:`holds`): object_store parses a key into a path, strips
  slashes at its ends and refuses empty, ``.`` and ``..`` segments and control characters;
- listings: for the same reason obstore lists ``x/`` as ``x`` in silence and ends at the first ``a//b``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.store import S3Store as NativeStore

from ossmount.config import StoreSettings
from ossmount.errors import AccessDenied, StoreUnavailable
from ossmount.model import ObjectId
from ossmount.stores.addresses import Address
from ossmount.stores.authorities import read_authorities
from ossmount.stores.describing import GetRequest, get_request, url_path
from ossmount.stores.etags import if_match, is_weak, plain_etag
from ossmount.stores.s3_errors import changed, from_boto, one_line

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import Credentials
    from obstore.store import S3Credential

CREDENTIAL_LIFE = timedelta(minutes=6)
"""How long obstore may believe an answer of the provider. It asks again when less than five minutes are
left, so once a minute; botocore itself renews ten to fifteen minutes before the true expiry."""

_ODD = re.compile(r"[\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|$)")


_PLAIN = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
"""Most keys: nothing to encode, nothing odd."""


def holds(key: str) -> bool:
    """Whether obstore reads exactly this key (see the header)."""
    return _ODD.search(key) is None


class S3Keys(NamedTuple):
    """What a request is signed with; ``token`` of temporary credentials only."""

    access_key: str
    secret_key: str
    token: str | None


def current_keys(session: boto3.session.Session, bucket: str) -> S3Keys:
    """boto3's credentials of now; may wait for those who give them. Raises AccessDenied."""
    now = _provider(session, bucket)()
    return S3Keys(now["access_key_id"], now["secret_access_key"], now["token"])


def describe_range(
    address: Address, keys: S3Keys | None, settings: StoreSettings, target: ObjectId, start: int, length: int
) -> GetRequest:
    """The GET of :func:`read_range` for a transfer that signs; without ``keys`` it is not signed."""
    headers = ["x-amz-request-payer: requester"] if settings.requester_pays else []
    signing = None
    if keys is not None:
        signing = (address.region, keys.access_key, keys.secret_key)
        if keys.token:
            headers.append(f"x-amz-security-token: {keys.token}")
    path = target.key if _PLAIN.fullmatch(target.key) else url_path(target.key)
    url = f"{address.url}/{path}"
    return get_request(url, target, start, length, headers, signing, address.ca)


class CredentialProvider:
    """boto3's credentials for obstore, renewed by botocore; called by obstore's threads."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __call__(self) -> S3Credential:
        """The credentials of now. Raises AccessDenied where they cannot be renewed, and what STS answers."""
        try:
            now = self._credentials.get_frozen_credentials()
        except ClientError as error:
            raise from_boto(error, "") from error
        except BotoCoreError as error:
            raise AccessDenied(
                f"the credentials cannot be renewed: {one_line(error)}", "log in again"
            ) from error
        return {
            "access_key_id": now.access_key or "",
            "secret_access_key": now.secret_key or "",
            "token": now.token,
            "expires_at": datetime.now(UTC) + CREDENTIAL_LIFE,
        }


def make_native(
    session: boto3.session.Session,
    settings: StoreSettings,
    bucket: str,
    url: str,
    region: str,
    ca: str | None,
) -> NativeStore:
    """obstore's client for the bucket whose keys are under ``url``. Raises AccessDenied (no credentials)."""
    # "Virtual hosted" makes obstore take the endpoint as it is, so boto3's answer decides the style.
    # Every variable that obstore reads by itself and that could lead elsewhere is overruled here.
    config: dict[str, Any] = {
        "endpoint": url,
        "aws_endpoint_url_s3": url,
        "region": region,
        "virtual_hosted_style_request": True,
        "skip_signature": settings.no_sign_request,
        "request_payer": settings.requester_pays,
    }
    provider = None if settings.no_sign_request else _provider(session, bucket)
    client: dict[str, Any] = {
        "allow_http": url.startswith("http://"),
        "connect_timeout": timedelta(seconds=settings.connect_timeout),
        "timeout": timedelta(seconds=settings.request_timeout),
        "user_agent": "ossmount",
    }
    if ca is not None:
        client["root_certificate"] = read_authorities(ca, "the file of certificates for s3://")
    return NativeStore(
        bucket,
        config=config,  # type: ignore[arg-type]
        client_options=client,  # type: ignore[arg-type]
        retry_config={"max_retries": 0},  # the Retrying wrapper owns retries
        credential_provider=provider,
    )


def _provider(session: boto3.session.Session, bucket: str) -> CredentialProvider:
    credentials = session.get_credentials()
    if credentials is None:
        raise AccessDenied(
            f"s3://{bucket}: no credentials found",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, --profile, or --no-sign-request",
        )
    return CredentialProvider(credentials)


def read_range(store: NativeStore, target: ObjectId, start: int, length: int) -> bytes:
    """As ``ObjectStore.get_range`` for ``length`` > 0; foreign errors pass through untranslated.

    The answer's tag is compared too: it costs a microsecond, it covers weak tags, and servers that
    ignore If-Match exist.
    """
    options: dict[str, Any] = {"range": (start, start + length)}
    if target.etag and not is_weak(target.etag):
        options["if_match"] = if_match(target.etag, f"{target.store}/{target.key}")
    answer = obstore.get(store, target.key, options=options)  # type: ignore[arg-type]
    if target.etag and (tag := plain_etag(answer.meta["e_tag"])) and tag != target.etag:
        raise changed(f"{target.store}/{target.key}")
    data = answer.bytes().to_bytes()
    if len(data) != length:
        raise StoreUnavailable(
            f"{target.store}/{target.key}: {len(data)} of {length} bytes arrived", "the read is repeated"
        )
    return data
