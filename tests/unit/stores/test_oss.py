"""The OSS store against a server that checks signatures: both transports, both signature versions."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ossmount.config import StoreSettings
from ossmount.errors import (
    AccessDenied,
    BucketMissing,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    Throttled,
)
from ossmount.model import ObjectId, ObjectInfo
from ossmount.stores.oss import OssStore
from tests.servers.oss_server import OssServer
from tests.support.host_names import host_names, needs_host_names

pytestmark = pytest.mark.server

ODD_KEYS = ["a", "a/b", "a//b", "./x", "../x", "x/", "x//", "é", "e\u0301", "a b\n", " lead", "trail ", "%2E"]
ODD_KEYS += ["%2e%2e/x", "?q", "x#y", "a+b", "a&b=c", "a\\b", "\x01", "n" * 256, "k" * 1000, "深/" * 200]


@pytest.fixture(params=["native-v1", "native-v4", "sdk-v1", "sdk-v4"])
def options(
    request: pytest.FixtureRequest,
    oss: OssServer,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    for name, value in oss.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OSS_SESSION_TOKEN", raising=False)
    transport, version = request.param.split("-")
    return {
        "endpoint_url": oss.endpoint_url,
        "region": oss.region,
        "transport": transport,
        "oss_signature": version,
    }


def open_store(options: dict[str, str], bucket: str = "bkt", **more: object) -> OssStore:
    return OssStore(bucket, StoreSettings(**(options | more)))  # type: ignore[arg-type]


def identity(store: OssStore, info: ObjectInfo) -> ObjectId:
    return ObjectId(store.uri, info.key, info.etag, info.size)


def test_odd_keys_are_listed_and_read(oss: OssServer, options: dict[str, str]) -> None:
    for key in ODD_KEYS:
        oss.put("bkt", key, key.encode() * 3, 1_700_000_000)
    store = open_store(options)
    found = [info for page in store.list("") for info in page.objects()]
    assert [info.key for info in found] == sorted(ODD_KEYS)
    for info in found:
        data = info.key.encode() * 3
        assert store.get_range(identity(store, info), 0, info.size) == data
        assert store.get_range(identity(store, info), 1, 2) == data[1:3]
        assert store.head(info.key) == info
    store.close()


def test_requests_are_what_was_asked_for(oss: OssServer, options: dict[str, str]) -> None:
    etag = oss.put("bkt", "a", b"0123456789")
    store = open_store(options)
    target = ObjectId(store.uri, "a", etag, 10)
    assert store.get_range(target, 2, 3) == b"234"
    assert store.get_range(target, 9, 1) == b"9"
    assert store.get_range(target, 0, 0) == b""
    assert oss.requests == {"GET": 2}
    assert store.head("a").etag == etag
    assert list(store.list("none/")) == []
    assert oss.requests == {"GET": 2, "HEAD": 1, "LIST": 1}


def test_long_listings(oss: OssServer, options: dict[str, str]) -> None:
    keys = [f"{'b' if i % 2 else 'a'}/{i:05}" for i in range(2500)]
    for key in keys:
        oss.put("bkt", key, b"")
    store = open_store(options)
    assert [k for page in store.list("") for k in page.keys] == sorted(keys)
    assert [k for page in store.list("a/", "a/01000") for k in page.keys] == [
        k for k in sorted(keys) if "a/01000" < k < "b"
    ]
    (page,) = store.list("", delimiter="/")
    assert (list(page.keys), list(page.prefixes)) == ([], ["a/", "b/"])


def test_another_version_is_never_given(oss: OssServer, options: dict[str, str]) -> None:
    etag = oss.put("bkt", "a", b"old")
    store = open_store(options)
    target = ObjectId(store.uri, "a", etag, 3)
    oss.put("bkt", "a", b"new")
    with pytest.raises(ObjectChanged, match="oss://bkt/a"):
        store.get_range(target, 0, 3)
    assert store.get_range(target._replace(etag=""), 0, 3) == b"new"
    oss.delete("bkt", "a")
    with pytest.raises(ObjectMissing):
        store.get_range(target, 0, 3)
    with pytest.raises(ObjectMissing):
        store.head("a")


def test_bytes_behind_the_end(oss: OssServer, options: dict[str, str]) -> None:
    etag = oss.put("bkt", "a", b"0123456789")
    store = open_store(options)
    with pytest.raises(StoreUnavailable):
        store.get_range(ObjectId(store.uri, "a", etag, 10), 8, 3)
    with pytest.raises(StoreUnavailable):
        store.get_range(ObjectId(store.uri, "a", "", 20), 8, 3)


def test_a_missing_bucket(options: dict[str, str]) -> None:
    store = open_store(options, "none")
    for ask in (
        lambda: list(store.list("")),
        lambda: store.head("a"),
        lambda: store.get_range(ObjectId(store.uri, "a", "", 1), 0, 1),
    ):
        with pytest.raises(BucketMissing, match="oss://none"):
            ask()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ((503, "SlowDown"), Throttled),
        ((429, "TooMany"), Throttled),
        ((500, "InternalError"), StoreUnavailable),
    ],
)
def test_passing_faults(
    oss: OssServer,
    options: dict[str, str],
    fault: tuple[int, str],
    kind: type[StoreError],
) -> None:
    etag = oss.put("bkt", "a", b"x")
    store = open_store(options)
    for ask in (lambda: list(store.list("")), lambda: store.get_range(ObjectId("", "a", etag, 1), 0, 1)):
        oss.fail_next(*fault)
        with pytest.raises(kind, match=fault[1]):
            ask()
        ask()


def test_nobody_listens(options: dict[str, str]) -> None:
    store = open_store(options, endpoint_url="http://127.0.0.1:1")
    for ask in (lambda: list(store.list("")), lambda: store.head("a")):
        with pytest.raises(StoreUnavailable, match="refused"):
            ask()


def test_a_slow_answer_is_given_up(oss: OssServer, options: dict[str, str]) -> None:
    etag = oss.put("bkt", "a", b"x")
    oss.state.latency = 1.0
    store = open_store(options, request_timeout=0.1)
    with pytest.raises(StoreUnavailable):
        store.get_range(ObjectId(store.uri, "a", etag, 1), 0, 1)


@pytest.mark.parametrize(
    ("variable", "code"),
    [("OSS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("OSS_ACCESS_KEY_SECRET", "SignatureDoesNotMatch")],
)
def test_wrong_keys(
    oss: OssServer,
    options: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    code: str,
) -> None:
    oss.put("bkt", "a", b"x")
    monkeypatch.setenv(variable, "wrong-and-hidden")
    store = open_store(options)
    for ask in (lambda: list(store.list("")), lambda: store.head("a")):
        with pytest.raises(AccessDenied, match=f"{code}.*the environment") as caught:
            ask()
        assert "wrong-and-hidden" not in str(caught.value)


def test_a_wrong_clock(oss: OssServer, options: dict[str, str]) -> None:
    etag = oss.put("bkt", "a", b"x")
    oss.state.clock_offset = 2000.0
    store = open_store(options)
    with pytest.raises(AccessDenied, match="clock"):
        store.get_range(ObjectId(store.uri, "a", etag, 1), 0, 1)


def test_public_buckets_need_no_keys(
    oss: OssServer,
    options: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OSS_ACCESS_KEY_ID")
    etag = oss.put("bkt", "a", b"x")
    store = open_store(options, no_sign_request=True)
    target = ObjectId(store.uri, "a", etag, 1)
    with pytest.raises(AccessDenied, match="unsigned"):
        store.get_range(target, 0, 1)
    oss.create_bucket("bkt", public=True)
    assert store.get_range(target, 0, 1) == b"x"
    assert [k for page in store.list("") for k in page.keys] == ["a"]


def test_renewed_keys_are_used(
    oss: OssServer,
    options: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ossmount.stores.oss_credentials.LOOK_EVERY", 0.0)
    path = tmp_path / "keys.json"
    etag = oss.put("bkt", "a", b"x")
    store = open_store(options, credentials_file=str(path))
    target = ObjectId(store.uri, "a", etag, 1)
    for name in ("STS.first", "STS.second"):
        oss.add_account(name, "secret", f"token of {name}")
        table = {"AccessKeyId": name, "AccessKeySecret": "secret", "SecurityToken": f"token of {name}"}
        path.with_suffix(".new").write_text(json.dumps(table))
        path.with_suffix(".new").rename(path)
        assert store.get_range(target, 0, 1) == b"x"
        assert [k for page in store.list("") for k in page.keys] == ["a"]
        oss.remove_account(name)
    with pytest.raises(AccessDenied, match="the credentials file"):
        store.get_range(target, 0, 1)


def test_unaddressable_keys_are_refused_before_the_request(options: dict[str, str], oss: OssServer) -> None:
    store = open_store(options)
    for key in (".", ".."):
        with pytest.raises(StoreError, match="HTTP cannot ask"):
            store.head(key)
    assert oss.requests == {}


def test_many_threads(oss: OssServer, options: dict[str, str]) -> None:
    data = random.Random(7).randbytes(200_000)
    target = ObjectId("oss://bkt", "a", oss.put("bkt", "a", data), len(data))
    store = open_store(options)
    starts = [random.Random(i).randrange(len(data) - 1000) for i in range(400)]
    with ThreadPoolExecutor(128) as pool:
        parts = list(pool.map(lambda start: store.get_range(target, start, 1000), starts))
    assert parts == [data[start : start + 1000] for start in starts]
    assert oss.requests == {"GET": 400}


@needs_host_names
@pytest.mark.parametrize("style", ["virtual", "cname"])
def test_buckets_in_the_host_name(oss: OssServer, options: dict[str, str], style: str) -> None:
    etag = oss.put("bkt", "a//b", b"data")
    host = "images.test" if style == "cname" else oss.state.domain
    oss.state.cnames["images.test"] = "bkt"
    with host_names(host, f"bkt.{host}"):
        url = f"http://{host}:{oss.port}"
        store = open_store(options, endpoint_url=url, oss_cname=style == "cname")
        assert store.get_range(ObjectId(store.uri, "a//b", etag, 4), 0, 4) == b"data"
        assert [k for page in store.list("a/") for k in page.keys] == ["a//b"]
        store.close()


def test_a_policy_against_signed_urls_leaves_the_sdk(
    oss: OssServer,
    options: dict[str, str],
) -> None:
    etag = oss.put("bkt", "a", b"x")
    store = open_store(options)
    target = ObjectId(store.uri, "a", etag, 1)
    oss.fail_next(403, "AccessDenied")
    if options["transport"] == "sdk":  # its signature stands in the header: the refusal is meant
        with pytest.raises(AccessDenied):
            store.get_range(target, 0, 1)
        return
    assert store.get_range(target, 0, 1) == b"x"
    assert oss.requests == {"GET": 2}
