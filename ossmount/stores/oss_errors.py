"""From OSS's answers to this package's errors, for both transports.

What may live here: the one table of what OSS's status and code mean, and what a user can do. Touch it when
OSS answers something that is reported badly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import oss2

from ossmount.errors import (
    AccessDenied,
    BucketMissing,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    Throttled,
)
from ossmount.stores.oss_credentials import ANONYMOUS

CLOCK_REMEDY = "set this machine's clock (see 'timedatectl')"

_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_REQUEST_ID = re.compile(r"<RequestId>([^<]*)</RequestId>|\"x-oss-request-id\": \"([^\"]*)\"")
_ENDPOINT = re.compile(r"<Endpoint>([^<]*)</Endpoint>")
_STATUS = re.compile(r"Parts \{ status: (\d{3})")
_QUERY = re.compile(r"\?\S+")

_KEY_REMEDIES = {
    "InvalidAccessKeyId": "the access key id does not exist; check",
    "SignatureDoesNotMatch": "the access key secret does not fit the id; check",
    "InvalidSecurityToken": "the security token is wrong or has expired; renew",
    "SecurityTokenExpired": "the security token has expired; renew",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What OSS said; ``status`` 0 when it said nothing (no connection, timeout)."""

    status: int
    code: str = ""
    message: str = ""
    request_id: str = ""
    endpoint: str = ""
    """The endpoint that OSS says to use instead."""


def refusal_of_sdk(error: oss2.exceptions.OssError) -> Refusal:
    """What oss2's exception says."""
    if error.status < 0:
        return Refusal(0, message=_one_line(_QUERY.sub("", str(error.body))))
    details = error.details or {}
    return Refusal(error.status, error.code, error.message, error.request_id, details.get("Endpoint", ""))


def refusal_of_native(text: str) -> Refusal:
    """What opendal's error text says; it quotes status, headers and body of the answer."""
    status = _STATUS.search(text)
    if status is None:
        return Refusal(0, message=_one_line(_QUERY.sub("", text)))
    return refusal_of_answer(int(status[1]), text)


def refusal_of_answer(status: int, body: str) -> Refusal:
    """What an answer says that is no success."""
    request_id = _REQUEST_ID.search(body)
    return Refusal(
        status,
        _first(_CODE, body),
        _first(_MESSAGE, body),
        (request_id[1] or request_id[2]) if request_id else "",
        _first(_ENDPOINT, body),
    )


def translate(refusal: Refusal, subject: str, source: str, endpoint: str = "") -> StoreError:
    """The error for ``subject`` (a URI), asked for at ``endpoint`` (a URL) with keys from ``source``."""
    subject = printable(subject)
    said = refusal.code or (f"HTTP {refusal.status}" if refusal.status else refusal.message)
    trace = f" (request {refusal.request_id})" if refusal.request_id else ""
    status, code = refusal.status, refusal.code
    if code == "NoSuchBucket":
        return BucketMissing(f"{subject}: there is no such bucket{trace}", "check the name and the region")
    if status == 404:
        return ObjectMissing(f"{subject}: there is no such object{trace}")
    if status in {412, 416}:  # the latter: it is shorter now
        return ObjectChanged(f"{subject} has changed since it was indexed{trace}", "refresh the index")
    if status in {401, 403}:
        return AccessDenied(f"{subject}: {said}{trace}", _access_remedy(refusal, source))
    if status in {429, 503}:
        return Throttled(f"{subject}: {said}{trace}", "lower --max-requests")
    if status == 0:
        where = f"{subject} at {endpoint}" if endpoint else subject
        return StoreUnavailable(f"{where}: {said}", "check --endpoint-url and the network")
    if status >= 500 or status == 408 or code == "RequestTimeout":
        return StoreUnavailable(f"{subject}: {said}{trace}", "check --endpoint-url and the network")
    if refusal.endpoint:
        return StoreError(f"{subject}: {said}{trace}", f"use --endpoint-url https://{refusal.endpoint}")
    return StoreError(f"{subject}: {said} {refusal.message}{trace}", "check --region and --endpoint-url")


def _access_remedy(refusal: Refusal, source: str) -> str:
    if refusal.code == "RequestTimeTooSkewed" or "expired" in refusal.message.partition("Request has ")[2]:
        return CLOCK_REMEDY
    if refusal.endpoint:
        return f"the bucket is elsewhere: use --endpoint-url https://{refusal.endpoint}"
    if refusal.code == "InvalidObjectState":
        return "it is archived: restore it first, or leave it out"
    if refusal.code in _KEY_REMEDIES:
        return f"{_KEY_REMEDIES[refusal.code]} {source}"
    if refusal.code == "AccessDenied" and source == ANONYMOUS:
        return "the bucket does not allow unsigned requests: give credentials"
    return f"the keys from {source} may not read it; oss:GetObject and oss:ListObjects must be allowed"


def printable(subject: str) -> str:
    """A URI on one line: keys may hold newlines and control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in subject)


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""


def _one_line(text: str, limit: int = 200) -> str:
    """The part of a library's message that says what happened, fit for one line."""
    innermost = text.split("Source:")[-1].split("Backtrace:")[0].split("Caused by")[-1]
    return " ".join(innermost.split())[:limit]
