"""The S3 store beyond the conformance suite: who is asked, credentials, regions, odd servers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError, NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from ossmount.config import StoreSettings
from ossmount.errors import AccessDenied, ObjectChanged, SettingsError, StoreError
from ossmount.model import ObjectId
from ossmount.stores import resolve_addresses, s3, s3_native
from ossmount.stores.s3 import S3Store
from ossmount.stores.s3_session import base_url, discover_region, make_client, make_session
from tests.servers.http import RangeServer, leading_to, respond
from tests.servers.s3 import S3Server
from tests.servers.tls import Authority, tell_nothing


@pytest.fixture(autouse=True)
def _no_machine_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gateway(s3_gateway: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in s3_gateway.environment().items():
        monkeypatch.setenv(name, value)
    return s3_gateway


@pytest.fixture
def bucket(gateway: S3Server) -> str:
    client = gateway.client()
    if "unit" not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="unit")
    client.put_object(Bucket="unit", Key="x", Body=b"data")
    return "unit"


def read(store: S3Store, key: str = "x", etag: str = "") -> bytes:
    return store.get_range(ObjectId(store.uri, key, etag, 4), 0, 4)


@pytest.mark.parametrize("key", ["a", "a/b", "%2E", "a b", ".a", "a.", "..a/b..", "é", "a\u0085"])
def test_keys_that_the_native_client_holds(key: str) -> None:
    assert s3_native.holds(key)


@pytest.mark.parametrize(
    "key", ["a//b", "./x", "../x", "x/", "/x", ".", "..", "a/./b", "a/..", "new\nline", "\x7f", "//"]
)
def test_keys_left_to_boto3(key: str) -> None:
    assert not s3_native.holds(key)


@given(st.text(st.sampled_from("a./%\n ")))
def test_held_keys_are_paths_without_loss(key: str) -> None:
    if s3_native.holds(key):
        assert all(part not in {"", ".", ".."} for part in key.split("/"))
        assert "\n" not in key


@pytest.mark.server
def test_credentials_of_a_profile(
    s3_gateway: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in s3_gateway.environment():
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text(
        f"[team]\naws_access_key_id={s3_gateway.access_key}\naws_secret_access_key={s3_gateway.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    for transport in ("native", "sdk"):
        settings = StoreSettings(endpoint_url=s3_gateway.endpoint_url, profile="team", transport=transport)
        assert read(S3Store(bucket, settings)) == b"data"


@pytest.mark.server
def test_credentials_of_a_process(
    s3_gateway: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in s3_gateway.environment():
        monkeypatch.delenv(name)
    answer = tmp_path / "answer.json"
    answer.write_text(
        f'{{"Version": 1, "AccessKeyId": "{s3_gateway.access_key}",'
        f' "SecretAccessKey": "{s3_gateway.secret_key}"}}'
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = cat {answer}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert read(S3Store(bucket, StoreSettings(endpoint_url=s3_gateway.endpoint_url))) == b"data"


@pytest.mark.server
@pytest.mark.parametrize("transport", ["native", "sdk"])
def test_no_credentials(s3_gateway: S3Server, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3Store("unit", StoreSettings(endpoint_url=s3_gateway.endpoint_url, transport=transport))
    with pytest.raises(AccessDenied, match=r"no usable credentials|no credentials found"):
        read(store)


@pytest.mark.server
@pytest.mark.parametrize("transport", ["native", "sdk"])
def test_unsigned_requests(s3_gateway: S3Server, bucket: str, transport: str) -> None:
    settings = StoreSettings(endpoint_url=s3_gateway.endpoint_url, transport=transport, no_sign_request=True)
    with pytest.raises(AccessDenied):  # the gateway's bucket is not public, and says so to the anonymous
        read(S3Store(bucket, settings))


def test_unknown_profile() -> None:
    with pytest.raises(SettingsError, match="nobody"):
        S3Store("unit", StoreSettings(profile="nobody"))


def renewable(expires_in: timedelta, answers: list[str]) -> RefreshableCredentials:
    def refresh() -> dict[str, str]:
        expiry = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return {"access_key": answers.pop(0), "secret_key": "s", "token": "t", "expiry_time": expiry}

    return RefreshableCredentials("old", "s", "t", datetime.now(UTC) + expires_in, refresh, "test")


def test_expiring_credentials_are_renewed() -> None:
    provider = s3_native.CredentialProvider(renewable(timedelta(minutes=1), ["new"]))
    given_out = provider()
    assert given_out["access_key_id"] == "new"
    expires = given_out["expires_at"]
    assert expires is not None
    assert expires - datetime.now(UTC) <= s3_native.CREDENTIAL_LIFE


def test_sts_that_refuses_is_access_denied() -> None:
    refusal = {"Error": {"Code": "InvalidIdentityToken"}, "ResponseMetadata": {"HTTPStatusCode": 400}}

    def refresh() -> dict[str, str]:
        raise ClientError(refusal, "AssumeRoleWithWebIdentity")

    expired = datetime.now(UTC) - timedelta(minutes=1)
    credentials = RefreshableCredentials("old", "s", "t", expired, refresh, "test")
    with pytest.raises(AccessDenied, match="InvalidIdentityToken"):
        s3_native.CredentialProvider(credentials)()


def test_fresh_credentials_are_kept() -> None:
    provider = s3_native.CredentialProvider(renewable(timedelta(hours=2), []))
    assert provider()["access_key_id"] == "old"


@pytest.mark.server
def test_native_reads_ask_for_renewal(
    gateway: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_native, "CREDENTIAL_LIFE", timedelta(seconds=1))  # expired at once
    asked = []
    original = s3_native.CredentialProvider.__call__
    monkeypatch.setattr(
        s3_native.CredentialProvider, "__call__", lambda self: asked.append(1) or original(self)
    )
    store = S3Store(bucket, StoreSettings(endpoint_url=gateway.endpoint_url))
    assert [read(store), read(store)] == [b"data", b"data"]
    assert len(asked) >= 1


class Failing:
    """Credentials that cannot be renewed."""

    def get_frozen_credentials(self) -> None:
        raise NoCredentialsError


@pytest.mark.server
def test_credentials_that_cannot_be_renewed(
    gateway: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boto3.session.Session, "get_credentials", lambda self: Failing())
    store = S3Store(bucket, StoreSettings(endpoint_url=gateway.endpoint_url))
    monkeypatch.setattr(s3, "base_url", lambda client, name: f"{gateway.endpoint_url}/{name}")
    with pytest.raises(AccessDenied, match="cannot be renewed"):
        read(store)


@pytest.mark.server
def test_who_is_asked(gateway: S3Server, bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "botocore.endpoint")
    store = S3Store(bucket, StoreSettings(endpoint_url=gateway.endpoint_url))
    assert read(store) == b"data"
    assert "GetObject" not in caplog.text
    assert read(S3Store(bucket, StoreSettings(endpoint_url=gateway.endpoint_url, transport="sdk"))) == b"data"
    assert "GetObject" in caplog.text


def test_opening_makes_no_request() -> None:
    store = S3Store("unit", StoreSettings(endpoint_url="http://127.0.0.1:9"))
    assert store.uri == "s3://unit"
    store.close()


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (StoreSettings(region="eu-west-1"), "https://bucket-1.s3.eu-west-1.amazonaws.com"),
        (StoreSettings(region="eu-west-1", addressing_style="path"), "https://s3.eu-west-1.amazonaws.com/bucket-1"),
        (StoreSettings(endpoint_url="http://h:9/"), "http://h:9/bucket-1"),
        (StoreSettings(endpoint_url="http://h:9", addressing_style="virtual"), "http://bucket-1.h:9"),
        (StoreSettings(endpoint_url="http://10.0.0.1:9", addressing_style="virtual"), "http://10.0.0.1:9/bucket-1"),
        (StoreSettings(endpoint_url="https://h/s3/"), "https://h/s3/bucket-1"),
    ],
)  # fmt: skip
def test_base_url_is_boto3s(settings: StoreSettings, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    client = make_client(make_session(settings), settings, settings.region or "us-east-1")
    assert base_url(client, "bucket-1") == url


@pytest.mark.server
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_endpoint_from_the_environment(
    gateway: S3Server, bucket: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, gateway.endpoint_url)
    for transport in ("native", "sdk"):
        assert read(S3Store(bucket, StoreSettings(transport=transport))) == b"data"


@pytest.mark.server
def test_given_endpoint_beats_the_environment(
    gateway: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false")
    for transport in ("native", "sdk"):
        settings = StoreSettings(endpoint_url=gateway.endpoint_url, transport=transport)
        assert read(S3Store(bucket, settings)) == b"data"


@pytest.mark.server
def test_region_is_discovered(s3_moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_moto.environment().items():
        monkeypatch.setenv(name, value)
    client = s3_moto.client()
    client.create_bucket(
        Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "ap-southeast-1"}
    )
    assert discover_region(client, "far-away") == "ap-southeast-1"


@pytest.mark.server
@pytest.mark.parametrize("guessed", ["", "us-west-2"])
def test_a_server_that_says_its_region_is_asked_again_unless_another_was_given(
    http_ranges: RangeServer, guessed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(state: RangeServer, path: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        if "/garage/s3/" in headers["authorization"]:
            return respond(state, path, headers)
        return 400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>garage</Region></Error>", {}

    monkeypatch.setattr("tests.servers.http.respond", strict)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", guessed)
    http_ranges.put("/unit/x", b"data")
    store = S3Store("unit", StoreSettings(endpoint_url=http_ranges.url))
    assert [read(store), read(store)] == [b"data", b"data"]
    request = store.describe(ObjectId(store.uri, "x", "", 4), 0, 4)
    assert request is not None
    assert request.signing == ("garage", "x", "x")
    asked = len(http_ranges.requests)
    assert read(store) == b"data"
    assert len(http_ranges.requests) == asked + 1
    with pytest.raises(StoreError, match="is in garage, not here; give --region garage"):
        read(S3Store("unit", StoreSettings(endpoint_url=http_ranges.url, region="here")))


@pytest.mark.server
@pytest.mark.parametrize("transport", ["native", "sdk"])
def test_endpoint_that_is_no_s3(
    http_ranges: RangeServer, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    http_ranges.put("/unit?list-type=2&prefix=&max-keys=1000&encoding-type=url", b"<html>Welcome</html>")
    http_ranges.status = 405
    store = S3Store("unit", StoreSettings(endpoint_url=http_ranges.url, transport=transport))
    for call in (lambda: list(store.list("")), lambda: read(store), lambda: store.head("x")):
        with pytest.raises(StoreError) as caught:
            call()
        assert "--endpoint-url" in caught.value.remedy
        assert "\n" not in str(caught.value)


@pytest.mark.server
@pytest.mark.parametrize("transport", ["native", "sdk"])
def test_a_server_that_only_knows_the_first_version_of_listing_does_not_look_complete(
    http_ranges: RangeServer, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (
        b"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><Contents>"
        b"<Key>a</Key><LastModified>2024-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
        b"<Size>3</Size></Contents></ListBucketResult>"
    )
    monkeypatch.setattr("tests.servers.http.respond", lambda *_: (200, page, {}))
    store = S3Store("unit", leading_to(http_ranges.url, transport))
    with pytest.raises(StoreError, match=r"s3://unit: .*ListObjectsV2; name the objects with --manifest"):
        list(store.list(""))


@pytest.mark.server
def test_server_that_ignores_if_match(http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    http_ranges.etags = "weak"  # never sent as If-Match: the answer's tag has to tell
    http_ranges.put("/unit/x", b"data")
    etag = http_ranges.validators("/unit/x")["ETag"].replace('"', "")
    for transport in ("native", "sdk"):
        http_ranges.put("/unit/x", b"data")
        store = S3Store("unit", StoreSettings(endpoint_url=http_ranges.url, transport=transport))
        assert read(store, etag=etag) == b"data"
        assert "if-match" not in http_ranges.requests[-1][2]
        http_ranges.put("/unit/x", b"DATA")
        with pytest.raises(ObjectChanged):
            read(store, etag=etag)


@pytest.mark.server
@pytest.mark.parametrize("transport", ["native", "sdk"])
def test_requester_pays_is_said(
    http_ranges: RangeServer, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    http_ranges.put("/unit/x", b"data")
    settings = StoreSettings(endpoint_url=http_ranges.url, transport=transport, requester_pays=True)
    assert read(S3Store("unit", settings)) == b"data"
    assert http_ranges.requests[-1][2]["x-amz-request-payer"] == "requester"


def test_a_store_that_was_told_its_address_needs_no_client_of_boto3() -> None:
    settings = StoreSettings(endpoint_url="http://127.0.0.1:9", region="eu-west-1", no_sign_request=True)
    found = resolve_addresses(["s3://bucket", "file:///", "nothing://x"], settings)
    assert list(found) == ["s3://bucket"]
    assert found["s3://bucket"].region == "eu-west-1"
    assert found["s3://bucket"].url.startswith("http://127.0.0.1:9")
    store = S3Store("bucket", settings)
    store.use_address(found["s3://bucket"])
    store.prepare()
    request = store.describe(ObjectId("s3://bucket", "a/b c", "tag", 9), 2, 3)
    assert request is not None
    assert request.url == f"{found['s3://bucket'].url}/a/b%20c"
    assert request.headers == ["Range: bytes=2-4", 'If-Match: "tag"']
    assert (request.length, request.whole, request.signing) == (3, False, None)
    assert store._client_made is None
    store.close()


@pytest.mark.parametrize("told_by", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("transport", ["native", "sdk"])
def test_all_clients_trust_the_same_authorities(
    gateway: S3Server,
    bucket: str,
    transport: str,
    told_by: str,
    behind_tls: Callable[[str], str],
    tls_authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tell_nothing(monkeypatch)
    monkeypatch.setenv(told_by, str(tls_authority.file))
    settings = StoreSettings(endpoint_url=behind_tls(gateway.endpoint_url), transport=transport)
    store = S3Store(bucket, settings)
    assert store.head("x").size == 4
    assert read(store) == b"data"
    assert [key for page in store.list("x") for key in page.keys] == ["x"]
    store.close()
