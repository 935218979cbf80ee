"""What doctor finds on machines made of files, and at sources with something wrong."""

from __future__ import annotations

import contextlib
import email.utils
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ossmount.app import doctor_source
from ossmount.app.doctor_machine import (
    Machine,
    check_allow_other,
    check_cache,
    check_device,
    check_fusermount,
    check_kernel,
    check_page_cache,
    check_read_ahead,
    doctor,
)
from ossmount.app.finding import Finding
from ossmount.config import CacheSettings, MountSettings, Settings, StoreSettings
from ossmount.errors import AccessDenied, ObjectMissing
from ossmount.protocols import ObjectStore
from tests.servers.tls import Authority, tell_nothing

NOW = 1_700_000_000.0


def test_device(tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    missing = check_device(Machine(device=device))
    assert (missing.ok, "modprobe fuse" in missing.remedy) == (False, True)
    device.touch()
    assert check_device(Machine(device=device)).ok
    directory = check_device(Machine(device=tmp_path))
    assert directory.ok is False
    assert "Is a directory" in directory.detail


def test_fusermount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "fusermount3"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_fusermount(Machine()).ok is False
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    status = tmp_path / "status"
    status.write_text("Name:\tx\nNoNewPrivs:\t1\n")
    assert check_fusermount(Machine(status=status, euid=0)).ok
    assert check_fusermount(Machine(status=status, euid=1000)).ok is False
    status.write_text("NoNewPrivs:\t0\n")
    assert check_fusermount(Machine(status=status, euid=1000)).ok


@pytest.mark.parametrize(
    ("conf", "euid", "asked", "ok"),
    [
        ("user_allow_other\n", 1000, True, True),
        ("#user_allow_other\n", 1000, True, False),
        ("#user_allow_other\n", 1000, False, None),
        ("", 0, True, True),
    ],
)
def test_allow_other(tmp_path: Path, conf: str, euid: int, asked: bool, ok: bool | None) -> None:
    path = tmp_path / "fuse.conf"
    path.write_text(conf)
    assert check_allow_other(Machine(fuse_conf=path, euid=euid), MountSettings(allow_other=asked)).ok is ok


@pytest.mark.parametrize(
    ("release", "ok"), [("6.9.0", True), ("6.18.44-x", True), ("7.0", True), ("6.8.12", None), ("odd", None)]
)
def test_kernel(release: str, ok: bool | None) -> None:
    assert check_kernel(Machine(release=release)).ok is ok


def test_read_ahead(tmp_path: Path) -> None:
    machine = Machine(bdi=tmp_path / "bdi")
    assert check_read_ahead(machine).ok is None
    (tmp_path / "bdi/0:1").mkdir(parents=True)
    (tmp_path / "bdi/0:1/read_ahead_kb").touch()
    assert check_read_ahead(machine).ok


@pytest.mark.parametrize(
    ("state", "action", "ok"),
    [("on", "pageout", None), ("off", "pageout", True), ("on", "stat", True), ("on", None, True)],
)
def test_page_cache(tmp_path: Path, state: str, action: str | None, ok: bool | None) -> None:
    assert check_page_cache(Machine(damon=tmp_path / "none")).ok
    schemes = tmp_path / "0/contexts/0/schemes"
    (schemes / "0").mkdir(parents=True)
    (tmp_path / "0/state").write_text(f"{state}\n")
    if action is not None:
        (schemes / "0/action").write_text(f"{action}\n")
    found = check_page_cache(Machine(damon=tmp_path))
    assert found.ok is ok
    assert (f"{tmp_path}/0/state" in found.remedy) == (ok is None)


def test_a_page_cache_that_only_root_may_look_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0/state").write_text("off\n")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = check_page_cache(Machine(damon=tmp_path))
    assert (found.ok, "as root" in found.remedy) == (None, True)


def test_cache(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "yet"
    assert check_cache(CacheSettings(cache_dir=str(directory), cache_size=1)).ok
    assert not directory.exists()
    assert list(tmp_path.iterdir()) == []
    assert check_cache(CacheSettings(cache_dir=str(directory), cache_size=1 << 60)).ok is None
    (tmp_path / "file").touch()
    assert check_cache(CacheSettings(cache_dir=str(tmp_path / "file" / "c"))).ok is False


def test_a_directory_as_source(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5000)
    found = {f.name: f for f in doctor(f"{tmp_path}/", Settings())}
    assert found["list"].ok, found
    assert found["read"].detail.startswith("4,096 bytes")
    assert "credentials" not in found


@pytest.mark.parametrize(("skew", "ok"), [(0, True), (-599, True), (601, False), (-7200, False)])
def test_clock(skew: float, ok: bool) -> None:
    finding = doctor_source.clock_finding(email.utils.formatdate(NOW - skew, usegmt=True), NOW)
    assert finding.ok is ok
    assert ("timedatectl" in finding.remedy) is not ok


def test_an_endpoint_without_a_clock() -> None:
    assert doctor_source.clock_finding(None, NOW).ok is None


class _Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def refusing_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.server
def test_a_refusal_is_an_answer() -> None:
    with refusing_server() as url:
        found = list(doctor_source.check_endpoint("s3://bucket", StoreSettings(endpoint_url=url)))
    assert [(f.name, f.ok) for f in found] == [("endpoint", True), ("clock", True)]


@pytest.mark.server
@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    ("root", "variable"),
    [("s3://bucket", "AWS_CA_BUNDLE"), ("oss://bucket", "SSL_CERT_FILE"), ("", "SSL_CERT_FILE")],
)
def test_an_endpoint_behind_tls_is_trusted_as_its_store_trusts_it(
    root: str,
    variable: str,
    trusted: bool,
    behind_tls: Callable[[str], str],
    tls_authority: Authority,
    strange_authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tell_nothing(monkeypatch)
    monkeypatch.setenv(variable, str((tls_authority if trusted else strange_authority).file))
    with refusing_server() as plain:
        url = behind_tls(plain)
        settings = StoreSettings(endpoint_url=url, region="cn-hangzhou")
        found = list(doctor_source.check_endpoint(root or url, settings))
    assert [(f.name, f.ok) for f in found][:1] == [("endpoint", trusted)]
    assert trusted or variable in found[0].remedy


def test_nobody_answers() -> None:
    with refusing_server() as url:
        pass
    (found,) = doctor_source.check_endpoint("s3://bucket", StoreSettings(endpoint_url=url))
    assert (found.name, found.ok) == ("endpoint", False)
    assert "--endpoint-url" in found.remedy


def test_credentials_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AccessDenied, match="no AWS credentials"):
        doctor_source.credentials_kind("s3://b", StoreSettings())
    assert "not signed" in doctor_source.credentials_kind("s3://b", StoreSettings(no_sign_request=True))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDVISIBLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    assert doctor_source.credentials_kind("s3://b", StoreSettings()) == "found by env"


def test_a_store_that_refuses() -> None:
    def refuse(root: str) -> ObjectStore:
        raise AccessDenied(f"{root} refuses", "ask its owner")

    found = list(doctor_source.check_objects("s3://b", "p/", refuse))
    assert found == [Finding("store", False, "s3://b refuses", "ask its owner")]


class _Listing:
    """A store whose list finds nothing, or raises."""

    uri = "s3://b"

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure

    def list(self, prefix: str) -> Iterator[object]:
        if self.failure:
            raise self.failure
        return iter(())


@pytest.mark.parametrize(
    ("failure", "detail"),
    [
        (None, "no object with content below s3://b/p/"),
        (ObjectMissing("gone"), "gone"),
        (RuntimeError("odd"), "RuntimeError: odd"),
    ],
)
def test_a_listing_that_fails_is_one_finding(failure: Exception | None, detail: str) -> None:
    store: object = _Listing(failure)
    (found,) = doctor_source.check_objects("s3://b", "p/", lambda root: store)  # type: ignore[arg-type,return-value]
    assert (found.name, found.ok, found.detail) == ("list", False, detail)


def test_a_source_that_is_none() -> None:
    (found,) = doctor_source.check_source("gopher://x", Settings())
    assert (found.name, found.ok) == ("source", False)
