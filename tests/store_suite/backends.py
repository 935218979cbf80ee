"""The stores that the conformance suite runs against.

To add one: write a factory that gives a :class:`Place`, and enter it in ``BACKENDS``. Every factory gets
pytest's ``request``, through which it asks for servers (``request.getfixturevalue``).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ossmount.config import StoreSettings
from tests.servers.oss_server import OssServer
from tests.servers.process import closed_port
from tests.servers.s3 import S3Server


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to put objects and to read them back through the store under test.

    ``prefix`` belongs to one test alone; ``shared`` may be kept between tests of the same backend.
    ``put(key, data)`` takes complete keys, and is the same object in every place of a backend.
    ``environment`` holds the right credentials, ``wrong_environment`` ones that the server must refuse
    (empty where it knows none).
    """

    root: str
    settings: StoreSettings
    prefix: str
    shared: str
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]
    holds: Callable[[str], bool] = lambda key: True
    """Whether the server can hold the key (a key relative to ``prefix``)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    wrong_environment: Mapping[str, str] = field(default_factory=dict)
    strange_environment: Mapping[str, str] = field(default_factory=dict)
    """Makes clients trust an authority from whom the server has no certificate; empty without TLS."""
    missing_root: str = ""
    """A root that does not exist; "" where there is no such thing."""
    unreachable: tuple[str, StoreSettings] | None = None
    """Root and settings that lead to a port where nobody listens."""


@dataclass(frozen=True, slots=True)
class Backend:
    """How to make a Place, whether its listing is tested, and whether TLS lies between.

    S3's listing takes ten seconds here, and with TLS shows no more than a page of ``test_s3_pages.py`` does.
    """

    make: Callable[[pytest.FixtureRequest], Place]
    lists: bool = True
    tls: bool = False


def unique(request: pytest.FixtureRequest) -> str:
    """A key prefix of the running test's own."""
    return f"t{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}/"


def _put_file(key: str, data: bytes) -> None:
    path = Path("/") / key
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name("." + path.name[:60])
    fresh.write_bytes(data)
    fresh.replace(path)


def _file(request: pytest.FixtureRequest) -> Place:
    top: Path = request.getfixturevalue("tmp_path")
    shared: Path = request.getfixturevalue("tmp_path_factory").getbasetemp() / "store-suite"

    def holds(key: str) -> bool:
        parts = key.split("/")
        return key != "a/b" and all(part not in {"", ".", ".."} and len(part) < 256 for part in parts)

    prefix = f"{str(top)[1:]}/"
    return Place(
        "file:///",
        StoreSettings(),
        prefix,
        f"{str(shared)[1:]}/",
        _put_file,
        lambda key: Path("/", key).unlink(),
        holds,
    )


def _http(request: pytest.FixtureRequest) -> Place:
    server = request.getfixturevalue("http_ranges")
    return Place(
        server.url,
        StoreSettings(connect_timeout=5, request_timeout=20),
        "data/",
        "shared/",
        lambda key, data: server.put(f"/{key}", data),
        lambda key: server.objects.pop(f"/{key}") and None,
        lambda key: key.isalnum(),
        unreachable=(f"http://127.0.0.1:{closed_port()}", StoreSettings(connect_timeout=5)),
    )


@functools.cache
def _bucket_client(server: S3Server, bucket: str) -> Any:
    """A client of the server, after making the bucket: once a run, for it takes 70 ms."""
    client = server.client()
    client.create_bucket(Bucket=bucket)
    return client


@functools.cache
def _s3_put(client: Any, bucket: str) -> Callable[[str, bytes], None]:
    def put(key: str, data: bytes) -> None:
        client.put_object(Bucket=bucket, Key=key, Body=data)

    return put


def _s3(fixture: str, transport: str, holds: Callable[[str], bool]) -> Callable[..., Place]:
    def make(request: pytest.FixtureRequest) -> Place:
        server: S3Server = request.getfixturevalue(fixture)
        bucket = "suite"
        client = _bucket_client(server, bucket)
        settings = StoreSettings(
            endpoint_url=server.endpoint_url, transport=transport, connect_timeout=5, request_timeout=20
        )
        nowhere = dataclasses.replace(settings, endpoint_url=f"http://127.0.0.1:{closed_port()}")
        right = server.environment()
        checks = fixture == "s3_gateway"  # moto takes any signature
        return Place(
            f"s3://{bucket}",
            settings,
            unique(request),
            "shared/",
            _s3_put(client, bucket),
            lambda key: client.delete_object(Bucket=bucket, Key=key) and None,
            holds,
            environment=right,
            wrong_environment=right | {"AWS_SECRET_ACCESS_KEY": "wrong"} if checks else {},
            missing_root="s3://suite-missing",
            unreachable=(f"s3://{bucket}", nowhere),
        )

    return make


@functools.cache
def _oss_put(server: OssServer, bucket: str) -> Callable[[str, bytes], None]:
    def put(key: str, data: bytes) -> None:
        server.put(bucket, key, data)

    return put


def _oss(transport: str, signature: str) -> Callable[..., Place]:
    def make(request: pytest.FixtureRequest) -> Place:
        server: OssServer = request.getfixturevalue("oss_shared")
        bucket = f"suite-{transport}-{signature}"
        server.create_bucket(bucket)
        settings = StoreSettings(
            endpoint_url=server.endpoint_url,
            region=server.region,
            transport=transport,
            oss_signature=signature,
            connect_timeout=5,
            request_timeout=20,
        )
        nowhere = dataclasses.replace(settings, endpoint_url=f"http://127.0.0.1:{closed_port()}")
        right = server.environment()
        return Place(
            f"oss://{bucket}",
            settings,
            unique(request),
            "shared/",
            _oss_put(server, bucket),
            lambda key: server.delete(bucket, key),
            environment=right,
            wrong_environment=right | {"OSS_ACCESS_KEY_SECRET": "wrong"},
            missing_root="oss://suite-missing",
            unreachable=(f"oss://{bucket}", nowhere),
        )

    return make


def _tls(plain: Callable[[pytest.FixtureRequest], Place], variable: str) -> Callable[..., Place]:
    """The same behind TLS; ``variable`` names the file of authorities to the store's clients."""

    def make(request: pytest.FixtureRequest) -> Place:
        place, front = plain(request), request.getfixturevalue("behind_tls")
        if place.settings.endpoint_url is None:
            place = dataclasses.replace(place, root=front(place.root))
        else:
            fronted = dataclasses.replace(place.settings, endpoint_url=front(place.settings.endpoint_url))
            place = dataclasses.replace(place, settings=fronted)
        authority, stranger = map(request.getfixturevalue, ("tls_authority", "strange_authority"))
        return dataclasses.replace(
            place,
            environment={**place.environment, variable: str(authority.file)},
            strange_environment={variable: str(stranger.file)},
        )

    return make


def _gateway_holds(key: str) -> bool:
    """The gateway's keys are paths of a file system."""
    parts = key.split("/")
    return key != "a/b" and all(part not in {"", ".", ".."} and len(part) < 256 for part in parts)


def _moto_holds(key: str) -> bool:
    """moto's URL router does not match newlines."""
    return "\n" not in key


BACKENDS: dict[str, Backend] = {
    "file": Backend(_file),
    "http": Backend(_http, lists=False),
    "s3-native": Backend(_s3("s3_gateway", "native", _gateway_holds)),
    "s3-sdk": Backend(_s3("s3_gateway", "sdk", _gateway_holds)),
    "s3-native-moto": Backend(_s3("s3_moto", "native", _moto_holds)),
    "s3-sdk-moto": Backend(_s3("s3_moto", "sdk", _moto_holds)),
    "oss-native-v1": Backend(_oss("native", "v1")),
    "oss-native-v4": Backend(_oss("native", "v4")),
    "oss-sdk-v1": Backend(_oss("sdk", "v1")),
    "oss-sdk-v4": Backend(_oss("sdk", "v4")),
    "http-tls": Backend(_tls(_http, "SSL_CERT_FILE"), lists=False, tls=True),
    "s3-native-tls": Backend(
        _tls(_s3("s3_gateway", "native", _gateway_holds), "AWS_CA_BUNDLE"), lists=False, tls=True
    ),
    "s3-sdk-tls": Backend(
        _tls(_s3("s3_gateway", "sdk", _gateway_holds), "AWS_CA_BUNDLE"), lists=False, tls=True
    ),
    "oss-sdk-tls": Backend(_tls(_oss("sdk", "v4"), "SSL_CERT_FILE"), tls=True),
}
