"""Which error stands for which answer of S3, from boto3 and from obstore alike."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, TokenRetrievalError
from obstore.exceptions import GenericError

from ossmount.errors import (
    AccessDenied,
    BucketMissing,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    Throttled,
)
from ossmount.stores.s3_errors import from_boto, from_native, is_redirect

ANSWERS = [
    (404, "NoSuchKey", ObjectMissing, "s3://b/k"),
    (404, "NoSuchBucket", BucketMissing, "s3://b "),
    (412, "PreconditionFailed", ObjectChanged, "refresh"),
    (416, "InvalidRange", ObjectChanged, "refresh"),
    (403, "AccessDenied", AccessDenied, "s3:GetObject"),
    (403, "InvalidAccessKeyId", AccessDenied, "wrong credentials"),
    (403, "SignatureDoesNotMatch", AccessDenied, "wrong credentials"),
    (400, "InvalidIdentityToken", AccessDenied, "wrong credentials"),
    (400, "IDPCommunicationError", StoreUnavailable, "IDPCommunicationError"),
    (400, "ExpiredToken", AccessDenied, "expired"),
    (403, "RequestTimeTooSkewed", AccessDenied, "clock"),
    (503, "SlowDown", Throttled, "fewer requests"),
    (429, "TooManyRequests", Throttled, "fewer requests"),
    (503, "ServiceUnavailable", Throttled, "busy"),
    (503, "503", Throttled, "busy"),
    (408, "408", StoreUnavailable, "408"),
    (403, "InvalidObjectState", AccessDenied, "restore the object"),
    (500, "InternalError", StoreUnavailable, "InternalError"),
    (400, "RequestTimeout", StoreUnavailable, "RequestTimeout"),
    (301, "PermanentRedirect", StoreError, "region"),
    (400, "InvalidArgument", StoreError, "--endpoint-url"),
]


def client_error(status: int, code: str, headers: dict[str, str] | None = None) -> ClientError:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, "GetObject")


@pytest.mark.parametrize(("status", "code", "error", "said"), ANSWERS)
def test_boto3(status: int, code: str, error: type[StoreError], said: str) -> None:
    translated = from_boto(client_error(status, code), "b", "k")
    assert type(translated) is error
    assert said in str(translated)


@pytest.mark.parametrize(("status", "code", "error", "said"), ANSWERS)
def test_obstore(status: int, code: str, error: type[StoreError], said: str) -> None:
    text = (
        f"Generic S3 error: Error performing GET http://h/b/k in 1ms - Server returned non-2xx status code:"
        f" {status} Reason: <?xml?>\n<Error><Code>{code}</Code></Error>\n\nDebug source:\nGeneric {{ }}"
    )
    translated = from_native(GenericError(text), "b", "k")
    assert type(translated) is error
    assert said in str(translated)
    assert "\n" not in str(translated)


def test_region_is_named() -> None:
    error = client_error(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"})
    translated = from_boto(error, "b", region="us-east-1")
    assert str(translated) == "bucket s3://b is in eu-west-1, not us-east-1; give --region eu-west-1"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("us-east-1", "bucket s3://b is in eu-west-1, not us-east-1; give --region eu-west-1"),
        ("eu-west-1", "s3://b/k: wrong credentials (AuthorizationHeaderMalformed)"),
    ],
)
def test_signed_for_another_region(asked: str, said: str) -> None:
    told = {"Code": "AuthorizationHeaderMalformed", "Region": "eu-west-1"}
    from_boto3 = ClientError({"Error": told, "ResponseMetadata": {"HTTPStatusCode": 400}}, "GetObject")
    assert str(from_boto(from_boto3, "b", "k", asked)).startswith(said)
    body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    from_obstore = GenericError(f"Server returned non-2xx status code: 400 Bad Request: {body}")
    assert str(from_native(from_obstore, "b", "k", asked)).startswith(said)


def test_a_key_that_speaks_of_redirects_does_not_lead_elsewhere() -> None:
    gone = (
        "Error performing GET https://b.s3.amazonaws.com/redirect/x in 1ms - Server returned non-2xx status"
    )
    assert not is_redirect(GenericError(f"{gone} code: 404"))
    assert is_redirect(GenericError("Received redirect without LOCATION, this normally indicates an"))


def test_clock_is_suspected_where_a_head_tells_no_code() -> None:
    late = from_boto(client_error(403, "403", {"date": formatdate(1_000_000_000, usegmt=True)}), "b", "k")
    right = from_boto(client_error(403, "403", {"date": formatdate(usegmt=True)}), "b", "k")
    assert "clock" in str(late)
    assert "clock" not in str(right)


def test_no_answer_at_all() -> None:
    refused = from_boto(EndpointConnectionError(endpoint_url="http://h"), "b", "k")
    assert type(refused) is StoreUnavailable
    cut = from_native(GenericError("Generic S3 error: HTTP error: error sending request"), "b", "k")
    assert type(cut) is StoreUnavailable


def test_login_that_ran_out() -> None:
    error = TokenRetrievalError(provider="sso", error_msg="Token has expired")
    assert type(from_boto(error, "b")) is AccessDenied


def test_a_certificate_that_obstore_does_not_trust_is_named() -> None:
    text = (
        "Generic S3 error: Error performing GET https://h/b/k in 1ms - HTTP error: error sending request\n\n"
        "Debug source:\nGeneric {\n    error: InvalidCertificate(\n        UnknownIssuer,\n    ),\n}"
    )
    translated = from_native(GenericError(text), "b", "k")
    assert type(translated) is StoreUnavailable
    assert "s3://b/k: the server's certificate is not trusted (UnknownIssuer);" in str(translated)
