"""Signed URLs are right by two other implementations: oss2's own, and the test server's check."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, urlsplit

import oss2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.config import StoreSettings
from ossmount.stores.oss_credentials import Credentials
from ossmount.stores.oss_endpoint import resolve_endpoint
from ossmount.stores.oss_signing import EXPIRES, signed_url
from tests.servers.oss_server_answers import Fault
from tests.servers.oss_server_http import ServerState, parse
from tests.servers.oss_server_signatures import Account, verify

REGION = "cn-hangzhou"
ENDPOINT = resolve_endpoint("bkt", StoreSettings(endpoint_url="http://127.0.0.1:80", region=REGION))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def check(method: str, url: str, keys: Credentials, now: float) -> str | None:
    parts = urlsplit(url)
    accounts = {keys.access_key_id: Account(keys.access_key_secret, keys.security_token)}
    state = ServerState(REGION, accounts)
    request = parse(state, method, f"{parts.path}?{parts.query}", {"host": parts.netloc})
    return verify(request, accounts, REGION, now)


@settings(max_examples=60)
@given(
    key=TEXT | st.just(""),
    parameters=st.dictionaries(
        st.sampled_from(["prefix", "continuation-token", "start-after", "delimiter", "x-oss-request-payer"]),
        TEXT,
        max_size=3,
    ),
    token=st.sampled_from(["", "to/ken+="]),
    version=st.sampled_from(["v1", "v4"]),
    method=st.sampled_from(["GET", "HEAD"]),
)
def test_the_server_accepts(
    key: str, parameters: dict[str, str], token: str, version: str, method: str
) -> None:
    now, keys = 1.7e9, Credentials("id", "secret", token)
    url = signed_url(ENDPOINT, version, keys, method, key, parameters, now)
    assert check(method, url, keys, now) == "id"
    with pytest.raises(Fault, match="SignatureDoesNotMatch"):
        check("PUT", url, keys, now)
    with pytest.raises(Fault, match="expired"):
        check(method, url, keys, now + EXPIRES + 1)


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_oss2_signs_the_same(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen:
        @staticmethod
        def utcnow() -> time.struct_time:
            from datetime import datetime

            return datetime(2023, 11, 14, 22, 13, 20)  # type: ignore[return-value]

    monkeypatch.setattr(oss2.auth, "datetime", Frozen)
    monkeypatch.setattr(oss2.auth.time, "time", lambda: 1.7e9)
    bucket = oss2.Bucket(oss2.make_auth("id", "secret", version), "http://127.0.0.1", "bkt", region=REGION)
    theirs = bucket.sign_url("GET", "a/b é", EXPIRES)
    ours = signed_url(ENDPOINT, version, Credentials("id", "secret"), "GET", "a/b é", {}, 1.7e9)
    assert dict(parse_qsl(urlsplit(ours).query)) == dict(parse_qsl(urlsplit(theirs).query))


def test_nothing_is_signed_without_keys() -> None:
    assert signed_url(ENDPOINT, "v4", None, "GET", "a", {}, 0.0) == "http://127.0.0.1:80/bkt/a"
    listed = signed_url(ENDPOINT, "v4", None, "GET", "", {"prefix": "a/"}, 0.0)
    assert listed == "http://127.0.0.1:80/bkt/?prefix=a%2F"
