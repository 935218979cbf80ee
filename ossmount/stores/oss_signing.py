"""Signed OSS URLs, versions V1 and V4, as pure functions of request, keys and time.

The native client can sign neither V4 nor with renewed keys, but it can fetch any URL; a URL that carries
its signature therefore gives it both. What may live here: signing. Source: OSS's API reference ("Sign a
URL"). Touch it when OSS changes how it signs.
"""

from __future__ import annotations

import functools
import hmac
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import quote

from ossmount.stores.oss_credentials import Credentials
from ossmount.stores.oss_endpoint import Endpoint
from ossmount.stores.signing_v4 import Dialect, moment_of, scope_of, signature_of

EXPIRES = 900
"""Seconds a signed URL is good for: it is used at once, but the clocks may differ by some minutes."""

OSS = Dialect("OSS4-HMAC-SHA256", "aliyun_v4", "oss", "aliyun_v4_request")

SIGNED_BY_V1 = frozenset({"continuation-token", "security-token", "x-oss-request-payer"})
"""Of the parameters that this package sends, those that V1 counts as sub-resources."""


def signed_url(
    endpoint: Endpoint,
    version: str,
    credentials: Credentials | None,
    method: str,
    key: str,
    parameters: Mapping[str, str],
    now: float,
) -> str:
    """The URL for one request; without credentials it is not signed. ``key`` "" means the bucket."""
    url = endpoint.url(key)
    if credentials is None:
        query = encode(parameters)
    elif version == "v1":
        query = _query_v1(endpoint.bucket, credentials, method, key, parameters, now)
    else:
        query = _query_v4(endpoint, credentials, method, key, parameters, now)
    return f"{url}?{query}" if query else url


def encode(parameters: Mapping[str, str]) -> str:
    """A query string in the canonical form that V4 signs: sorted, percent-encoded, bare empty values."""
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in parameters.items())
    return "&".join(f"{name}={value}" if value else name for name, value in pairs)


def _query_v1(
    bucket: str,
    credentials: Credentials,
    method: str,
    key: str,
    parameters: Mapping[str, str],
    now: float,
) -> str:
    expires = str(int(now) + EXPIRES)
    sent = dict(parameters)
    if credentials.security_token:
        sent["security-token"] = credentials.security_token
    counted = "&".join(f"{name}={sent[name]}" for name in sorted(sent) if name in SIGNED_BY_V1)
    resource = f"/{bucket}/{key}" + (f"?{counted}" if counted else "")
    text = f"{method}\n\n\n{expires}\n{resource}"
    mac = _keyed_v1(credentials.access_key_secret).copy()
    mac.update(text.encode())
    sent["OSSAccessKeyId"] = credentials.access_key_id
    sent["Expires"] = expires
    sent["Signature"] = b64encode(mac.digest()).decode()
    return encode(sent)


def _query_v4(
    endpoint: Endpoint,
    credentials: Credentials,
    method: str,
    key: str,
    parameters: Mapping[str, str],
    now: float,
) -> str:
    date = moment_of(now)
    scope = scope_of(OSS, date, endpoint.region)
    query = _unsigned_v4(credentials, scope, date, tuple(parameters.items()))
    path = quote(f"/{endpoint.bucket}/{key}", safe="/")
    canonical = f"{method}\n{path}\n{query}\n\n\nUNSIGNED-PAYLOAD"
    signature = signature_of(OSS, credentials.access_key_secret, date, endpoint.region, canonical)
    return f"{query}&x-oss-signature={signature}"


@functools.lru_cache(maxsize=8)
def _unsigned_v4(
    credentials: Credentials, scope: str, date: str, parameters: tuple[tuple[str, str], ...]
) -> str:
    """The query without its signature: the same for every object that is asked for in one second."""
    sent = dict(parameters)
    sent["x-oss-signature-version"] = OSS.algorithm
    sent["x-oss-credential"] = f"{credentials.access_key_id}/{scope}"
    sent["x-oss-date"] = date
    sent["x-oss-expires"] = str(EXPIRES)
    if credentials.security_token:
        sent["x-oss-security-token"] = credentials.security_token
    return encode(sent)


@functools.lru_cache(maxsize=8)
def _keyed_v1(secret: str) -> hmac.HMAC:
    # Kept and copied, as in signing_v4.
    return hmac.new(secret.encode(), digestmod="sha1")
