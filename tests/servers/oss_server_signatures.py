"""Checking OSS signatures: V1 and V4, in the header and in the URL, written from the API reference.

Deliberately independent of the clients' own signing code, so that a mistake there is found. What may live
here: pure functions over a request's parts. Touch it when OSS changes how it signs.
"""

from __future__ import annotations

import calendar
import email.utils
import hashlib
import hmac
import re
import time
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import quote

from tests.servers.oss_server_answers import Fault

MAX_SKEW = 900.0
"""Seconds by which a client's clock may differ (OSS: 15 minutes)."""

V4 = "OSS4-HMAC-SHA256"

SIGNED_PARAMETERS = frozenset(
    [
        "acl",
        "append",
        "bucketInfo",
        "callback",
        "callback-var",
        "cname",
        "comp",
        "continuation-token",
        "cors",
        "delete",
        "encryption",
        "img",
        "inventory",
        "lifecycle",
        "live",
        "location",
        "logging",
        "objectMeta",
        "partNumber",
        "policy",
        "position",
        "qos",
        "referer",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "security-token",
        "stat",
        "status",
        "symlink",
        "tagging",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
        "x-oss-process",
        "x-oss-request-payer",
        "x-oss-traffic-limit",
    ]
)
"""Sub-resources and overrides that V1 signs; other parameters are not part of the string to sign."""

_FIELDS = re.compile(r"(Credential|AdditionalHeaders|Signature)=([^,\s]+)")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What signing looks at. ``headers`` have lower-case names, ``query`` is decoded."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """An access key. ``token`` is the STS token that must come with it ("" for a permanent key)."""

    secret: str
    token: str = ""


def verify(request: SignedRequest, accounts: dict[str, Account], region: str, now: float) -> str | None:
    """The access key that signed, or None for an anonymous request. Raises Fault."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith(V4 + " "):
        return _header_v4(request, authorization, accounts, region, now)
    if authorization.startswith("OSS "):
        return _header_v1(request, authorization, accounts, now)
    if authorization:
        raise Fault(400, "InvalidArgument", "Unsupported Authorization Type")
    if "x-oss-signature" in request.query:
        return _url_v4(request, accounts, region, now)
    if "Signature" in request.query:
        return _url_v1(request, accounts, now)
    return None


def _account(accounts: dict[str, Account], access_key: str, token: str) -> Account:
    account = accounts.get(access_key)
    if account is None:
        raise Fault(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist.")
    if token != account.token:
        raise Fault(403, "InvalidSecurityToken", "The security token you provided is invalid.")
    return account


def _compare(expected: str, given: str) -> None:
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise Fault(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")


def _check_clock(signed_at: float, now: float) -> None:
    if abs(signed_at - now) > MAX_SKEW:
        raise Fault(403, "RequestTimeTooSkewed", "The difference between the times is too large.")


def _check_expiry(signed_at: float, expires_at: float, now: float) -> None:
    if now > expires_at:
        raise Fault(403, "AccessDenied", "Request has expired.")
    if signed_at - now > MAX_SKEW:
        raise Fault(403, "AccessDenied", "Request is not valid yet.")


# V1: HMAC-SHA1 over method, MD5, type, date, x-oss- headers and resource


def _header_v1(request: SignedRequest, authorization: str, accounts: dict[str, Account], now: float) -> str:
    access_key, _, signature = authorization.removeprefix("OSS ").rpartition(":")
    account = _account(accounts, access_key, request.headers.get("x-oss-security-token", ""))
    date = request.headers.get("x-oss-date") or request.headers.get("date", "")
    parsed = email.utils.parsedate_tz(date)
    if parsed is None:
        raise Fault(403, "AccessDenied", "OSS authentication requires a valid Date.")
    _check_clock(float(email.utils.mktime_tz(parsed)), now)
    _compare(_sign_v1(request, date, account.secret), signature)
    return access_key


def _url_v1(request: SignedRequest, accounts: dict[str, Account], now: float) -> str:
    query = request.query
    access_key, expires = query.get("OSSAccessKeyId", ""), query.get("Expires", "")
    account = _account(accounts, access_key, query.get("security-token", ""))
    if not expires.isdecimal():
        raise Fault(403, "AccessDenied", "Invalid Expires.")
    _check_expiry(0.0, float(expires), now)
    _compare(_sign_v1(request, expires, account.secret), query["Signature"])
    return access_key


def _sign_v1(request: SignedRequest, date: str, secret: str) -> str:
    headers = request.headers
    oss_headers = "".join(
        f"{name}:{headers[name].strip()}\n" for name in sorted(headers) if name.startswith("x-oss-")
    )
    parameters = [
        f"{name}={value}" if value else name
        for name, value in sorted(request.query.items())
        if name in SIGNED_PARAMETERS
    ]
    resource = f"/{request.bucket}/{request.key}" if request.bucket else "/"
    resource += "?" + "&".join(parameters) if parameters else ""
    text = "\n".join([request.method, headers.get("content-md5", ""), headers.get("content-type", ""), date])
    signed = f"{text}\n{oss_headers}{resource}".encode()
    return b64encode(hmac.digest(secret.encode(), signed, "sha1")).decode()


# V4: HMAC-SHA256 over the hash of a canonical request, with a key derived from day and region


def _header_v4(
    request: SignedRequest, authorization: str, accounts: dict[str, Account], region: str, now: float
) -> str:
    fields = dict(_FIELDS.findall(authorization))
    date = request.headers.get("x-oss-date", "")
    access_key = _check_scope(fields.get("Credential", ""), date, region)
    account = _account(accounts, access_key, request.headers.get("x-oss-security-token", ""))
    _check_clock(_seconds(date), now)
    additional = [name for name in fields.get("AdditionalHeaders", "").split(";") if name]
    expected = _sign_v4(request, request.query, date, region, additional, account.secret)
    _compare(expected, fields.get("Signature", ""))
    return access_key


def _url_v4(request: SignedRequest, accounts: dict[str, Account], region: str, now: float) -> str:
    query = dict(request.query)
    signature = query.pop("x-oss-signature")
    if query.get("x-oss-signature-version") != V4:
        raise Fault(403, "AccessDenied", "Invalid signature version.")
    date = query.get("x-oss-date", "")
    access_key = _check_scope(query.get("x-oss-credential", ""), date, region)
    account = _account(accounts, access_key, query.get("x-oss-security-token", ""))
    signed_at = _seconds(date)
    _check_expiry(signed_at, signed_at + float(query.get("x-oss-expires", "0")), now)
    additional = [name for name in query.get("x-oss-additional-headers", "").split(";") if name]
    _compare(_sign_v4(request, query, date, region, additional, account.secret), signature)
    return access_key


def _seconds(date: str) -> float:
    try:
        return float(calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ")))
    except ValueError:
        raise Fault(403, "AccessDenied", "Invalid x-oss-date.") from None


def _check_scope(credential: str, date: str, region: str) -> str:
    access_key, *scope = credential.split("/")
    if scope != [date[:8], region, "oss", "aliyun_v4_request"]:
        raise Fault(400, "InvalidArgument", f"Invalid signing region or date in Authorization: {scope}")
    return access_key


def _sign_v4(
    request: SignedRequest,
    query: dict[str, str],
    date: str,
    region: str,
    additional: list[str],
    secret: str,
) -> str:
    headers = request.headers
    signed_names = sorted(
        name
        for name in headers
        if name.startswith("x-oss-") or name in {"content-type", "content-md5"} or name in additional
    )
    parameters = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query.items())
    canonical = "\n".join(
        [
            request.method,
            quote(f"/{request.bucket}/{request.key}" if request.bucket else "/", safe="/-_.~"),
            "&".join(f"{k}={v}" if v else k for k, v in parameters),
            "".join(f"{name}:{headers[name].strip()}\n" for name in signed_names),
            ";".join(sorted(additional)),
            headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )
    scope = f"{date[:8]}/{region}/oss/aliyun_v4_request"
    text = f"{V4}\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"aliyun_v4{secret}".encode()
    for part in (date[:8], region, "oss", "aliyun_v4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
