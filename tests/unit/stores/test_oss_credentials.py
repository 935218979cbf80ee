"""Where OSS keys come from and when they are read again."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ossmount.config import StoreSettings
from ossmount.errors import AccessDenied, SettingsError
from ossmount.stores.oss_credentials import (
    LOOK_EVERY,
    RENEW_BEFORE,
    Anonymous,
    Credentials,
    EcsRoleCredentials,
    EnvironmentCredentials,
    FileCredentials,
    choose_credentials,
    parse_credentials,
)


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def write_keys(path: Path, key_id: str, expires: float | None = None) -> None:
    table = {"AccessKeyId": key_id, "AccessKeySecret": "secret", "SecurityToken": "token"}
    if expires is not None:
        table["Expiration"] = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(table))
    beside.rename(path)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_the_vendors_form() -> None:
    text = (
        '{"AccessKeyId": "i", "AccessKeySecret": "s", "SecurityToken": "t",'
        ' "Expiration": "1970-01-01T00:01:40Z"}'
    )
    assert parse_credentials(text, "f") == (Credentials("i", "s", "t"), 100.0)
    assert parse_credentials('{"AccessKeyId": "i", "AccessKeySecret": "s"}', "f") == (
        Credentials("i", "s", ""),
        float("inf"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"AccessKeyId": 1, "AccessKeySecret": "hidden"}',
        "hidden",
        "[" * 100_000,
        b"hidden\xff",
    ],
)
def test_another_form_is_named_without_its_content(text: str | bytes) -> None:
    with pytest.raises(SettingsError, match=r"keys\.json") as caught:
        parse_credentials(text, "keys.json")
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_changed_file_is_read_again(keys: Path) -> None:
    clock = Clock()
    write_keys(keys, "first")
    source = FileCredentials(str(keys), clock)
    assert source.current().access_key_id == "first"
    write_keys(keys, "second")
    assert source.current().access_key_id == "first"  # not looked at within LOOK_EVERY
    clock.now += LOOK_EVERY
    assert source.current() == Credentials("second", "secret", "token")


def test_keys_about_to_expire_are_read_again_although_the_file_looks_the_same(keys: Path) -> None:
    clock = Clock()
    write_keys(keys, "first", clock.now + 1000)
    source = FileCredentials(str(keys), clock)
    source.current()
    stat = keys.stat()
    content = keys.read_text().replace("first", "after")
    with keys.open("r+") as stream:
        stream.write(content)
    os.utime(keys, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    clock.now += 1000 - RENEW_BEFORE
    assert source.current().access_key_id == "after"


@pytest.mark.parametrize("broken", [b"half a fi", b"\xff\xfe\0half a fi"])
def test_a_broken_replacement_leaves_the_old_keys_until_they_expire(keys: Path, broken: bytes) -> None:
    clock = Clock()
    write_keys(keys, "first", clock.now + 1000)
    source = FileCredentials(str(keys), clock)
    source.current()
    keys.write_bytes(broken)
    clock.now += 999
    assert source.current().access_key_id == "first"
    clock.now += 1
    with pytest.raises(AccessDenied, match="expired"):
        source.current()
    write_keys(keys, "third", clock.now + 1000)
    clock.now += LOOK_EVERY
    assert source.current().access_key_id == "third"


def test_a_missing_file_is_named(keys: Path) -> None:
    with pytest.raises(AccessDenied, match=r"keys\.json.*No such file"):
        FileCredentials(str(keys)).current()


def test_the_environment_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    source = EnvironmentCredentials()
    monkeypatch.delenv("OSS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(AccessDenied, match="--credentials-file"):
        source.current()
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "i")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "s")
    monkeypatch.delenv("OSS_SESSION_TOKEN", raising=False)
    assert source.current() == Credentials("i", "s", "")
    monkeypatch.setenv("OSS_SESSION_TOKEN", "t")
    assert source.current() == Credentials("i", "s", "t")


class Metadata(BaseHTTPRequestHandler):
    """The ECS metadata service for one role."""

    expires = "2099-01-01T00:00:00Z"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        known = self.path == "/ram/reader"
        body = json.dumps(
            {
                "Code": "Success" if known else "Failed",
                "AccessKeyId": f"STS.{self.asked}",
                "AccessKeySecret": "secret",
                "SecurityToken": "token",
                "Expiration": self.expires,
            }
        ).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def metadata() -> Iterator[tuple[str, type[Metadata]]]:
    kind = type("FreshMetadata", (Metadata,), {})
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/ram/", kind
        server.shutdown()
        thread.join()


def test_role_keys_are_kept_while_they_are_good(metadata: tuple[str, type[Metadata]]) -> None:
    url, service = metadata
    source = EcsRoleCredentials("reader", url)
    assert source.current() == source.current() == Credentials("STS.1", "secret", "token")
    assert service.asked == 1


def test_expiring_role_keys_are_renewed(metadata: tuple[str, type[Metadata]]) -> None:
    url, service = metadata
    service.expires = "2001-01-01T00:00:00Z"
    source = EcsRoleCredentials("reader", url)
    assert [source.current().access_key_id for _ in range(2)] == ["STS.1", "STS.2"]


def test_an_unknown_role_is_named(metadata: tuple[str, type[Metadata]]) -> None:
    with pytest.raises(AccessDenied, match="'writer' gives no credentials"):
        EcsRoleCredentials("writer", metadata[0]).current()


def test_which_source_the_settings_mean() -> None:
    assert isinstance(choose_credentials(StoreSettings()), EnvironmentCredentials)
    assert isinstance(choose_credentials(StoreSettings(credentials_file="f")), FileCredentials)
    assert isinstance(choose_credentials(StoreSettings(ecs_ram_role="r")), EcsRoleCredentials)
    unsigned = StoreSettings(no_sign_request=True, credentials_file="f")
    assert isinstance(choose_credentials(unsigned), Anonymous)


def test_a_printed_key_has_no_secret() -> None:
    assert "hidden" not in repr(Credentials("i", "hidden", "hidden"))
    assert "hidden" not in str(Credentials("i", "hidden", "hidden"))
