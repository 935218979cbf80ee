"""Web servers with and without ETags, ranges and manners."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator

import pytest

from ossmount.config import StoreSettings
from ossmount.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectMissing,
    SourceError,
    StoreError,
    StoreUnavailable,
    Throttled,
)
from ossmount.model import ObjectId
from ossmount.stores.http import MODIFIED, HttpStore
from ossmount.stores.wrappers import Backoff, Retrying
from tests.servers.http import RangeServer, respond
from tests.servers.process import closed_port

pytestmark = pytest.mark.server
DATA = bytes(range(256)) * 20


@pytest.fixture
def store(http_ranges: RangeServer) -> Iterator[HttpStore]:
    http_ranges.put("/x", DATA)
    store = HttpStore(http_ranges.url, StoreSettings(connect_timeout=5, request_timeout=20))
    yield store
    store.close()


def identified(store: HttpStore, key: str = "x") -> ObjectId:
    info = store.head(key)
    return ObjectId(store.uri, key, info.etag, info.size)


@pytest.mark.parametrize(("etags", "start"), [("strong", ""), ("weak", "W/"), ("none", MODIFIED)])
def test_identity_is_kept(store: HttpStore, http_ranges: RangeServer, etags: str, start: str) -> None:
    http_ranges.etags = etags
    target = identified(store)
    assert target.etag.startswith(start)
    assert store.get_range(target, 100, 200) == DATA[100:300]
    http_ranges.put("/x", DATA[::-1])
    with pytest.raises(ObjectChanged):
        store.get_range(target, 100, 200)


def test_conditions_sent(store: HttpStore, http_ranges: RangeServer) -> None:
    sent = {}
    for etags in ("strong", "weak", "none"):
        http_ranges.etags = etags
        store.get_range(identified(store), 0, 1)
        sent[etags] = {name for name in http_ranges.requests[-1][2] if name.startswith("if-")}
    assert sent == {"strong": {"if-match"}, "weak": set(), "none": {"if-unmodified-since"}}


def test_without_any_validator(store: HttpStore, http_ranges: RangeServer) -> None:
    http_ranges.etags, http_ranges.dates = "none", False
    target = identified(store)
    assert target.etag == ""
    assert store.head("x").mtime_ns == 0
    assert store.get_range(target, 1, 2) == DATA[1:3]


@pytest.mark.parametrize(("start", "length"), [(0, 10), (1000, 10), (5119, 1), (0, 5120)])
def test_server_without_ranges(store: HttpStore, http_ranges: RangeServer, start: int, length: int) -> None:
    http_ranges.ranges = False
    target = identified(store)
    assert store.get_range(target, start, length) == DATA[start : start + length]
    assert store.get_range(target, start, length) == DATA[start : start + length]


@pytest.mark.parametrize("retry_after", ["", "1"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, ObjectMissing), (410, ObjectMissing), (401, AccessDenied), (403, AccessDenied),
        (412, ObjectChanged), (416, ObjectChanged), (429, Throttled), (503, Throttled),
        (408, StoreUnavailable), (500, StoreUnavailable), (502, StoreUnavailable), (400, StoreError),
    ],
)  # fmt: skip
def test_refusals(
    store: HttpStore, http_ranges: RangeServer, status: int, error: type[StoreError], retry_after: str
) -> None:
    target = identified(store)
    http_ranges.status, http_ranges.retry_after = status, retry_after
    for call in (lambda: store.head("x"), lambda: store.get_range(target, 0, 1)):
        with pytest.raises(StoreError) as caught:
            call()
        assert type(caught.value) is error
        assert f"{store.uri}/x" in caught.value.message


def test_a_body_that_trickles_is_given_up(http_ranges: RangeServer) -> None:
    http_ranges.put("/x", DATA)
    store = HttpStore(http_ranges.url, StoreSettings(), clock=itertools.count(0, 1000).__next__)
    with pytest.raises(StoreUnavailable, match=f" of {len(DATA)} bytes arrived"):
        store.get_range(identified(store), 0, len(DATA))
    store.close()


def test_broken_off_body(store: HttpStore, http_ranges: RangeServer) -> None:
    target = identified(store)
    http_ranges.short = 7
    with pytest.raises(StoreUnavailable):
        store.get_range(target, 0, 100)
    http_ranges.short = 0
    assert store.get_range(target, 0, 100) == DATA[:100]


def test_an_object_that_has_become_shorter_and_says_no_version_is_not_cut_short(
    store: HttpStore, http_ranges: RangeServer
) -> None:
    http_ranges.etags, http_ranges.dates, http_ranges.ranges = "none", False, False
    target = identified(store)
    longer = target._replace(size=target.size + 10)
    with pytest.raises(StoreUnavailable, match="5 of 15 bytes arrived"):
        store.get_range(longer, target.size - 5, 15)


def test_a_proxy_gets_user_and_password(http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    right = "Basic " + base64.b64encode("me:p@ß".encode()).decode()

    def guarded(state: RangeServer, path: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        if headers.get("proxy-authorization") != right:
            return 407, b"", {}
        return respond(state, path.removeprefix("http://store.invalid"), headers)

    monkeypatch.setattr("tests.servers.http.respond", guarded)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    http_ranges.put("/x", DATA)
    place = http_ranges.url.removeprefix("http://")
    for proxy in (f"http://me:p%40%C3%9F@{place}", f"me:p%40%C3%9F@{place}"):
        monkeypatch.setenv("http_proxy", proxy)
        assert HttpStore("http://store.invalid", StoreSettings()).head("x").size == len(DATA)
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", http_ranges.url)
        with pytest.raises(AccessDenied, match=r"the proxy refuses .*USER:PASSWORD"):
            HttpStore(f"{scheme}://store.invalid", StoreSettings()).head("x")


def test_query_and_escapes_go_over_the_wire_unchanged(store: HttpStore, http_ranges: RangeServer) -> None:
    http_ranges.put("/a%20b?v=1&w=%2F", b"query")
    assert store.get_range(identified(store, "a%20b?v=1&w=%2F"), 0, 5) == b"query"


@pytest.mark.parametrize("status", [0, 403, 404, 412, 429, 500])
def test_signatures_are_not_shown(store: HttpStore, http_ranges: RangeServer, status: int) -> None:
    http_ranges.status = status
    gone = HttpStore(f"http://127.0.0.1:{closed_port()}", StoreSettings(connect_timeout=5))
    for asked in (store, gone) if status else (gone,):
        with pytest.raises(StoreError) as caught:
            Retrying(asked, Backoff(retries=1, deadline=0.0)).head("y?v=1&sig=SECRET")
        assert f"{asked.uri}/y?..." in caught.value.message
        assert "SECRET" not in str(caught.value)


def test_no_listing(store: HttpStore) -> None:
    with pytest.raises(SourceError, match="--manifest"):
        store.list("")
