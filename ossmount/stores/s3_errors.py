"""What boto3 and obstore raise, told in the words of :mod:`ossmount.errors`.

What may live here: the two translations and the table of S3 error codes they share. Touch it when a
server answers with a code that falls into the wrong class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from obstore import exceptions as native
from urllib3.exceptions import HTTPError

from ossmount.errors import (
    AccessDenied,
    BucketMissing,
    ObjectChanged,
    ObjectMissing,
    SettingsError,
    StoreError,
    StoreUnavailable,
    Throttled,
)

_CODE = re.compile(r"<Code>([^<]+)</Code>")
_REGION = re.compile(r"<Region>([^<]+)</Region>")
_STATUS = re.compile(r"status code: (\d{3})")
_REDIRECTED = re.compile("Received redirect|error following redirect")
"""What obstore says where an answer leads elsewhere; its message holds the key, too."""
_DISTRUST = re.compile(r"\bInvalidCertificate\(\s*(\w+)")
"""In what obstore says for those who debug it; its message knows no reason."""

_SKEW_LIMIT = 900
"""Seconds by which a request's time may be off before S3 refuses it (RequestTimeTooSkewed)."""

THROTTLED = frozenset(
    {"SlowDown", "SlowDownRead", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
    | {"TooManyRequests", "BandwidthLimitExceeded", "RequestThrottled", "XMinioServerNotInitialized"}
)
CHANGED = frozenset({"PreconditionFailed", "412", "InvalidRange", "416"})
MISSIGNED = "AuthorizationHeaderMalformed"
"""With another region in the answer: signed for the wrong one. AWS's global endpoint, and servers with a
region of their own, say so instead of redirecting."""
WRONG_KEYS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", MISSIGNED, "InvalidToken"}
    # What STS says of the token that it is to give keys for (AssumeRoleWithWebIdentity, Errors).
    | {"InvalidIdentityToken", "IDPRejectedClaim", "InvalidClientTokenId"}
)
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
TEMPORARY = frozenset({"InternalError", "RequestTimeout", "IDPCommunicationError"})
SKEWED = "RequestTimeTooSkewed"
ARCHIVED = "InvalidObjectState"
"""The object is in a storage class, such as Glacier, from which it has to be restored before it is read."""
_TIMED_OUT = 408
"""What gateways say of a connection on which a request was too late: the next one will not be."""
REDIRECT = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "301", "307", "IllegalLocationConstraintException"}
)

_REMEDY_KEYS = "check the credentials (ossmount doctor shows which ones are used)"
_REMEDY_CLOCK = "set this machine's clock (it is checked by the signature)"
_REMEDY_ENDPOINT = "check --endpoint-url, the network and the proxy"

_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.RefreshWithMFAUnsupportedError,
    boto.InvalidConfigError,
)
_SETTINGS = (boto.ProfileNotFound, boto.ConfigNotFound, boto.ConfigParseError, boto.InvalidRegionError)
MALFORMED = (
    *(ResponseParserError, KeyError, ValueError, TypeError),
    *(AttributeError, OverflowError, RecursionError),
)
"""What botocore raises, or the reading of what it gives, where an answer is no XML, lacks something, holds
something else, or leads in a circle."""
_SETTINGS_ALSO = (boto.ParamValidationError, boto.UnknownEndpointError, boto.NoRegionError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: HTTP status (0: unknown), S3 error code, its message, its Date header, and where
    the bucket is.
    """

    status: int
    code: str
    message: str = ""
    date: str = ""
    region: str = ""


def from_boto(error: Exception, bucket: str, key: str = "", region: str = "") -> StoreError | SettingsError:
    """The error to raise for what boto3 raised on ``bucket`` (and ``key``)."""
    place = _place(bucket, key)
    if isinstance(error, boto.ClientError):
        return from_answer(boto_answer(error), bucket, key, region)
    if isinstance(error, _CREDENTIALS):
        return AccessDenied(f"{place}: no usable credentials: {one_line(error)}", _REMEDY_KEYS)
    if isinstance(error, _SETTINGS + _SETTINGS_ALSO):
        return SettingsError(f"{place}: {one_line(error)}", "check --profile, --region and the bucket's name")
    if isinstance(error, UnicodeEncodeError):
        return _unheld(place, error)
    if isinstance(error, MALFORMED) and not isinstance(error, boto.BotoCoreError | HTTPError):
        lacks = "it has no " if isinstance(error, KeyError) else ""
        return StoreError(
            f"{place}: the answer is not S3's: {lacks}{one_line(error)}", "check --endpoint-url"
        )
    return StoreUnavailable(f"{place}: {one_line(error)}", _REMEDY_ENDPOINT)


def boto_answer(error: boto.ClientError) -> Answer:
    """The server's answer inside a ClientError."""
    response = error.response
    metadata = response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    said = response.get("Error", {})
    return Answer(
        int(metadata.get("HTTPStatusCode", 0)),
        str(said.get("Code", "")),
        str(said.get("Message", "")),
        headers.get("date", ""),
        headers.get("x-amz-bucket-region", "") or str(said.get("Region", "")),
    )


def from_page(status: int, body: bytes, bucket: str) -> StoreError | None:
    """The error for an answer to LIST that only time mends; None for others."""
    if status < 500 and status != 429:
        return None
    code = _CODE.search(body.decode("utf-8", "replace"))
    return from_answer(Answer(status, code[1] if code else ""), bucket, "")


def from_native(error: Exception, bucket: str, key: str, region: str = "") -> StoreError:
    """The error to raise for what obstore raised on ``key``. obstore tells status and code as text only."""
    place = f"s3://{bucket}/{key}"
    answer = native_answer(error)
    if answer.code or answer.status:
        return from_answer(answer, bucket, key, region)
    if isinstance(error, UnicodeEncodeError):
        return _unheld(place, error)
    if isinstance(error, FileNotFoundError):
        return ObjectMissing(f"{place} is not there", "it was deleted since it was listed")
    if isinstance(error, native.PreconditionError):
        return changed(place)
    if isinstance(error, native.UnauthenticatedError | native.PermissionDeniedError):
        return AccessDenied(f"{place}: access denied: {one_line(error)}", _REMEDY_KEYS)
    distrust = _DISTRUST.search(str(error))
    reason = f"the server's certificate is not trusted ({distrust[1]})" if distrust else one_line(error)
    return StoreUnavailable(f"{place}: {reason}", _REMEDY_ENDPOINT)


def native_answer(error: Exception) -> Answer:
    """The server's answer as far as obstore's message quotes it."""
    text = str(error)
    status, code, region = _STATUS.search(text), _CODE.search(text), _REGION.search(text)
    return Answer(
        int(status[1]) if status else 0, code[1] if code else "", region=region[1] if region else ""
    )


def is_redirect(error: Exception) -> bool:
    """Whether obstore was sent elsewhere and could not follow."""
    return _REDIRECTED.search(str(error)) is not None


def from_answer(answer: Answer, bucket: str, key: str, region: str = "") -> StoreError:
    """The error for an answer of S3 that is not a success."""
    place = _place(bucket, key)
    code, status = answer.code, answer.status
    if code == "NoSuchBucket" or (status == 404 and not key):
        return BucketMissing(f"bucket s3://{bucket} does not exist", "check its name and --endpoint-url")
    if code in {"NoSuchKey", "NoSuchVersion"} or status == 404:
        return ObjectMissing(f"{place} is not there", "it was deleted since it was listed")
    if code in CHANGED or status in {412, 416}:
        return changed(place)
    missigned = code == MISSIGNED and answer.region not in {"", region}
    if missigned or code in REDIRECT or status in {301, 307}:
        return StoreError(*_redirect(answer, bucket, region))
    if code in THROTTLED or status == 429:
        return Throttled(f"{place}: the store asks for fewer requests ({code or status})", "lower the load")
    if code in WRONG_KEYS | EXPIRED | {SKEWED} or status in {401, 403}:
        return denied(answer, place)
    if status == 503 and (code == "ServiceUnavailable" or not _specific(answer)):  # HEAD tells no code
        return Throttled(f"{place}: the store is busy (503)", "lower the load")
    if status >= 500 or code in TEMPORARY or status in {0, _TIMED_OUT}:
        return StoreUnavailable(f"{place}: the store failed ({code or status})", "try again later")
    detail = answer.message or code or "no reason given"
    return StoreError(f"{place}: the store refused ({status} {detail})", "check --endpoint-url and --region")


def _unheld(place: str, error: UnicodeEncodeError) -> StoreError:
    return StoreError(f"{place}: S3 holds no such name: {one_line(error)}", "copy it to another key")


def _place(bucket: str, key: str) -> str:
    if not bucket:
        return "s3"
    return f"s3://{bucket}/{key}" if key else f"s3://{bucket}"


def changed(place: str) -> ObjectChanged:
    """The object is not the version that was asked for."""
    return ObjectChanged(f"{place} has changed since it was listed", "rebuild or refresh the index")


def denied(answer: Answer, place: str) -> AccessDenied:
    """401, 403 and their kin; tells apart clock, expiry, wrong keys, archives and missing rights."""
    if answer.code == SKEWED or (not _specific(answer) and _skewed(answer.date)):
        return AccessDenied(f"{place}: the clock differs from the store's", _REMEDY_CLOCK)
    if answer.code in EXPIRED:
        return AccessDenied(f"{place}: the credentials have expired", "log in again, or renew them")
    if answer.code in WRONG_KEYS:
        return AccessDenied(f"{place}: wrong credentials ({answer.code})", _REMEDY_KEYS)
    if answer.code == ARCHIVED:
        return AccessDenied(
            f"{place} is archived ({answer.code})", "restore the object first, or leave it out"
        )
    return AccessDenied(
        f"{place}: access denied ({answer.code or answer.status})",
        "check the credentials and that they allow s3:ListBucket and s3:GetObject",
    )


def _specific(answer: Answer) -> bool:
    return bool(answer.code) and not answer.code.isdigit()


def _skewed(date: str) -> bool:
    """Whether the server's Date header is too far from this machine's clock."""
    try:
        theirs = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return False
    return abs((datetime.now(UTC) - theirs).total_seconds()) > _SKEW_LIMIT


def _redirect(answer: Answer, bucket: str, region: str) -> tuple[str, str]:
    asked = f", not {region}" if region else ""
    if answer.region:
        return f"bucket s3://{bucket} is in {answer.region}{asked}", f"give --region {answer.region}"
    return f"bucket s3://{bucket} is in another region{asked}", "give --region, or the bucket's endpoint"


def one_line(error: Exception) -> str:
    """The message of ``error`` on one line of at most 300 characters, without obstore's debug dump."""
    return " ".join(str(error).partition("Debug source:")[0].split())[:300]
