"""Which host serves a bucket."""

from __future__ import annotations

import pytest

from ossmount.config import StoreSettings
from ossmount.errors import SettingsError
from ossmount.stores.oss_endpoint import resolve_endpoint

WITHOUT_REGION = (
    "oss-accelerate.aliyuncs.com",
    "oss-accelerate-overseas.aliyuncs.com",
    "cn-hangzhou-j-internal.oss-data-acc.aliyuncs.com",
    "oss-cache-cn-beijing-h.aliyuncs.com",
    "alias.oss-cn-hangzhou.oss-accesspoint.aliyuncs.com",
)


@pytest.mark.parametrize(
    ("options", "url", "region"),
    [
        ({"region": "cn-hangzhou"}, "https://bkt.oss-cn-hangzhou.aliyuncs.com/a%2Fb", "cn-hangzhou"),
        ({"region": "oss-cn-hangzhou"}, "https://bkt.oss-cn-hangzhou.aliyuncs.com/a%2Fb", "cn-hangzhou"),
        (
            {"region": "cn-hangzhou", "oss_internal": True},
            "https://bkt.oss-cn-hangzhou-internal.aliyuncs.com/a%2Fb",
            "cn-hangzhou",
        ),
        (
            {"endpoint_url": "oss-us-west-1-internal.aliyuncs.com", "oss_internal": True},
            "https://bkt.oss-us-west-1-internal.aliyuncs.com/a%2Fb",
            "us-west-1",
        ),
        (
            {"endpoint_url": "http://oss-ap-southeast-1.aliyuncs.com/"},
            "http://bkt.oss-ap-southeast-1.aliyuncs.com/a%2Fb",
            "ap-southeast-1",
        ),
        (
            {"endpoint_url": "https://oss-accelerate.aliyuncs.com", "region": "cn-beijing"},
            "https://bkt.oss-accelerate.aliyuncs.com/a%2Fb",
            "cn-beijing",
        ),
        *(
            (
                {"endpoint_url": f"https://{host}", "region": "cn-beijing", "oss_internal": True},
                f"https://bkt.{host}/a%2Fb",
                "cn-beijing",
            )
            for host in WITHOUT_REGION
        ),
        (
            {"endpoint_url": "https://img.example.com", "oss_cname": True, "oss_signature": "v1"},
            "https://img.example.com/a%2Fb",
            "",
        ),
        (
            {"endpoint_url": "http://127.0.0.1:8080", "region": "x", "addressing_style": "virtual"},
            "http://127.0.0.1:8080/bkt/a%2Fb",
            "x",
        ),
        ({"endpoint_url": "http://[::1]:80", "region": "x"}, "http://[::1]:80/bkt/a%2Fb", "x"),
        ({"endpoint_url": "http://localhost:80", "region": "x"}, "http://localhost:80/bkt/a%2Fb", "x"),
        (
            {"endpoint_url": "https://minio.example", "region": "x", "addressing_style": "path"},
            "https://minio.example/bkt/a%2Fb",
            "x",
        ),
    ],
)
def test_urls(options: dict[str, object], url: str, region: str) -> None:
    endpoint = resolve_endpoint("bkt", StoreSettings(**options))  # type: ignore[arg-type]
    assert endpoint.url("a/b") == url
    assert endpoint.region == region


@pytest.mark.parametrize(
    ("bucket", "options", "message"),
    [
        ("bkt", {}, "--region"),
        ("bkt", {"endpoint_url": "https://img.example.com"}, "--region"),
        *(("bkt", {"endpoint_url": f"https://{host}"}, "--region") for host in WITHOUT_REGION),
        ("bkt", {"endpoint_url": "ftp://host"}, "not an endpoint"),
        ("bkt", {"endpoint_url": "https://host/path"}, "without a path"),
        *(("bkt", {"endpoint_url": f"http://{host}"}, "not an endpoint") for host in ("[::1", "h:x", "h:0")),
        ("B_", {"region": "cn-hangzhou"}, "cannot be a bucket"),
    ],
)
def test_what_cannot_be_an_endpoint(bucket: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve_endpoint(bucket, StoreSettings(**options))  # type: ignore[arg-type]
