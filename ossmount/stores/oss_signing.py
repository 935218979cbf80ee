"""Signed OSS URLs, versions V1 and V4, as pure functions of request, keys and time.

The native client can sign neither V4 nor with renewed keys, but it can fetch any URL; a URL that carries
its signature therefore gives it both. What may live here: signing. Source: OSS's API reference ("Sign a
URL"). Touch it when OSS changes how it signs.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import quote

from ossmount.stores.oss_credentials import Credentials
from ossmount.stores.oss_endpoint import Endpoint

EXPIRES = 900
"""Seconds a signed URL is good for: it is used at once, but the clocks may differ by some minutes."""

ALGORITHM = "OSS4-HMAC-SHA256"

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
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{date[:8]}/{endpoint.region}/oss/aliyun_v4_request"
    query = _unsigned_v4(credentials, scope, date, tuple(parameters.items()))
    path = quote(f"/{endpoint.bucket}/{key}", safe="/")
    canonical = f"{method}\n{path}\n{query}\n\n\nUNSIGNED-PAYLOAD"
    text = f"{ALGORITHM}\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    mac = _keyed_v4(credentials.access_key_secret, date[:8], endpoint.region).copy()
    mac.update(text.encode())
    return f"{query}&x-oss-signature={mac.hexdigest()}"


@functools.lru_cache(maxsize=8)
def _unsigned_v4(
    credentials: Credentials, scope: str, date: str, parameters: tuple[tuple[str, str], ...]
) -> str:
    """The query without its signature: the same for every object that is asked for in one second."""
    sent = dict(parameters)
    sent["x-oss-signature-version"] = ALGORITHM
    sent["x-oss-credential"] = f"{credentials.access_key_id}/{scope}"
    sent["x-oss-date"] = date
    sent["x-oss-expires"] = str(EXPIRES)
    if credentials.security_token:
        sent["x-oss-security-token"] = credentials.security_token
    return encode(sent)


# Keyed hashes are kept and copied: deriving V4's key anew would double the cost of a signature, and
# hmac.digest() gives up the interpreter lock each time, which costs 40 µs a GET with 16 threads (measured).


@functools.lru_cache(maxsize=8)
def _keyed_v1(secret: str) -> hmac.HMAC:
    return hmac.new(secret.encode(), digestmod="sha1")


@functools.lru_cache(maxsize=8)
def _keyed_v4(secret: str, day: str, region: str) -> hmac.HMAC:
    key = f"aliyun_v4{secret}".encode()
    for part in (day, region, "oss", "aliyun_v4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")
