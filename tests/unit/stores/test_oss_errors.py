"""What OSS's answers become."""

from __future__ import annotations

import oss2
import pytest

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
from ossmount.stores.oss_errors import Refusal, refusal_of_native, refusal_of_sdk, translate


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (Refusal(404, "NoSuchBucket"), BucketMissing, "no such bucket"),
        (Refusal(404, "NoSuchKey"), ObjectMissing, "no such object"),
        (Refusal(404), ObjectMissing, "no such object"),
        (Refusal(412, "PreconditionFailed"), ObjectChanged, "has changed"),
        (Refusal(403, "AccessDenied"), AccessDenied, "keys from the file"),
        (Refusal(401), AccessDenied, "HTTP 401"),
        (Refusal(403, "InvalidAccessKeyId"), AccessDenied, "check the file"),
        (Refusal(403, "SecurityTokenExpired"), AccessDenied, "renew the file"),
        (Refusal(403, "RequestTimeTooSkewed"), AccessDenied, "clock"),
        (Refusal(403, "AccessDenied", "Request has expired."), AccessDenied, "clock"),
        (Refusal(403, "AccessDenied", endpoint="oss-cn-x.aliyuncs.com"), AccessDenied, "https://oss-cn-x"),
        (Refusal(429), Throttled, "--max-requests"),
        (Refusal(503, "SlowDown"), Throttled, "SlowDown"),
        (Refusal(500, "InternalError"), StoreUnavailable, "InternalError"),
        (Refusal(408), StoreUnavailable, "HTTP 408"),
        (Refusal(400, "RequestTimeout"), StoreUnavailable, "RequestTimeout"),
        (Refusal(416, "InvalidRange"), ObjectChanged, "has changed"),
        (Refusal(403, "InvalidObjectState"), AccessDenied, "restore it first"),
        (Refusal(0, message="refused"), StoreUnavailable, "refused"),
        (Refusal(400, "InvalidArgument", "region"), StoreError, "--region"),
        (Refusal(301, endpoint="oss-cn-x.aliyuncs.com"), StoreError, "https://oss-cn-x"),
    ],
)
def test_the_table(refusal: Refusal, kind: type[StoreError], words: str) -> None:
    error = translate(refusal, "oss://bkt/a", "the file")
    assert type(error) is kind
    assert "oss://bkt/a" in error.message
    assert words in str(error)
    assert "\n" not in str(error)


def test_unsigned_requests_are_told_to_sign() -> None:
    assert "give credentials" in translate(Refusal(403, "AccessDenied"), "oss://bkt", ANONYMOUS).remedy


def test_a_key_with_a_newline_stays_on_one_line() -> None:
    assert "oss://bkt/a\\nb é" in str(translate(Refusal(404), "oss://bkt/a\nb é", ""))


def test_the_request_id_is_told() -> None:
    assert "request 5C3D" in str(translate(Refusal(500, request_id="5C3D"), "oss://bkt", ""))


def test_opendals_text() -> None:
    text = (
        "PermissionDenied (permanent) at read => <Error><Code>AccessDenied</Code><Message>m</Message>"
        "<RequestId>77</RequestId><Endpoint>e.com</Endpoint></Error>\nContext:\n uri: http://h/b?x=1\n"
        ' response: Parts { status: 403, version: HTTP/1.1, headers: {"x-oss-request-id": "77"} }'
    )
    assert refusal_of_native(text) == Refusal(403, "AccessDenied", "m", "77", "e.com")


def test_opendals_text_without_an_answer_shows_no_signature() -> None:
    text = "Unexpected at read => send\nContext:\n url: http://h/b?x-oss-signature=hidden\n"
    text += "Source:\n refused\nBacktrace:\n 0"
    assert refusal_of_native(text) == Refusal(0, message="refused")
    assert "hidden" not in refusal_of_native(text.replace("Source:", "")).message


def test_oss2s_errors() -> None:
    details = {"Code": "NoSuchKey", "Message": "m"}
    error = oss2.exceptions.NoSuchKey(404, {"x-oss-request-id": "77"}, b"", details)
    assert refusal_of_sdk(error) == Refusal(404, "NoSuchKey", "m", "77")
    broken = oss2.exceptions.RequestError(OSError("url: /b?signature=hidden (Caused by refused)"))
    assert refusal_of_sdk(broken).status == 0
    assert "refused" in refusal_of_sdk(broken).message
    assert "hidden" not in refusal_of_sdk(broken).message
