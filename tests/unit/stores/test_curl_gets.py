"""Single GETs by libcurl: what they follow, what they refuse to take, and by whom they go."""

from __future__ import annotations

import pycurl
import pytest

from ossmount.errors import StoreUnavailable
from ossmount.model import ObjectId
from ossmount.stores.curl_gets import CurlGets, environment_proxy
from ossmount.stores.oss import OssStore
from tests.servers.http import RangeServer, leading_to, respond

Given = tuple[int, bytes, dict[str, str]]


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "https://b.host/", ""),
        ({"https_proxy": "http://p:1"}, "https://b.host/", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "http://b.host/", ""),
        ({"all_proxy": "http://q:2"}, "http://b.host/", "http://q:2"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": ".host"}, "https://b.host:9/", ""),
    ],
)
def test_the_proxy_of_the_environment(
    variables: dict[str, str], url: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment_proxy(url) == proxy


@pytest.mark.server
def test_more_than_is_wanted_is_not_taken(http_ranges: RangeServer) -> None:
    http_ranges.put("/x", bytes(1000))
    gets = CurlGets(leading_to(None), 1 << 16, "", None)
    assert gets.get(f"{http_ranges.url}/x", (), most=1000).body == bytes(1000)
    with pytest.raises(pycurl.error, match="file size"):
        gets.get(f"{http_ranges.url}/x", (), most=999)
    gets.close()


@pytest.mark.server
def test_oss_may_send_who_asks_elsewhere_and_in_no_circle(
    http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a bucket mirrors another place, what it does not have yet is there."""

    def mirroring(state: RangeServer, path: str, headers: dict[str, str]) -> Given:
        if path == "/there":
            return respond(state, path, headers)
        return 302, b"", {"Location": f"{state.url}{'/there' if path.startswith('/bkt/x') else path}"}

    monkeypatch.setattr("tests.servers.http.respond", mirroring)
    http_ranges.put("/there", b"0123456789")
    store = OssStore("bkt", leading_to(http_ranges.url))
    assert store.get_range(ObjectId(store.uri, "x", "", 10), 2, 3) == b"234"
    with pytest.raises(StoreUnavailable, match="redirects"):
        store.get_range(ObjectId(store.uri, "circle", "", 10), 2, 3)
    store.close()
