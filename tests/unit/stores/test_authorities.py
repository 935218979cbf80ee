"""Files of authorities: where they are looked for, and what is said of one that is none."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import certifi
import pycurl
import pytest

from ossmount.config import StoreSettings
from ossmount.errors import SettingsError, StoreUnavailable
from ossmount.model import ObjectId
from ossmount.protocols import ObjectStore
from ossmount.stores import authorities, open_store
from ossmount.stores.authorities import authorities_file, authorities_path, ensure_authorities
from ossmount.stores.curl_handles import new_handle, trust
from tests.servers.http import RangeServer, leading_to
from tests.servers.tls import TOLD_BY, Authority, tell_nothing


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tell_nothing(monkeypatch)


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No list of authorities anywhere."""
    nowhere = ssl.DefaultVerifyPaths("", "", "", "", "", "")._replace(cafile=None, capath=None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr(authorities, "USUAL", ("/nonexistent/list.pem",))


@pytest.fixture
def folder(tls_authority: Authority, tmp_path: Path) -> Path:
    """The authorities' certificates as ``openssl rehash`` leaves them: a file and a link for each."""
    made, end = tmp_path / "folder", "-----END CERTIFICATE-----\n"
    made.mkdir()
    for number, certificate in enumerate(tls_authority.file.read_text().split(end)[:-1]):
        (made / f"{number}.pem").write_text(certificate + end)
    subprocess.run(["openssl", "rehash", str(made)], check=True)
    return made


def opened(uri: str, endpoint_url: str | None = None, transport: str = "native") -> ObjectStore:
    return open_store(uri, leading_to(endpoint_url, transport))


@pytest.mark.parametrize(
    ("uri", "variable"),
    [
        ("s3://bkt", "AWS_CA_BUNDLE"),
        ("s3://bkt", "REQUESTS_CA_BUNDLE"),
        ("s3://bkt", "SSL_CERT_FILE"),
        ("oss://bkt", "SSL_CERT_FILE"),
        ("https://localhost", "SSL_CERT_FILE"),
    ],
)
@pytest.mark.parametrize("what", ["missing", "directory", "no certificate"])
def test_a_file_that_is_none_is_refused_at_once(
    uri: str, variable: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"missing": tmp_path / "missing", "directory": tmp_path, "no certificate": tmp_path / "other"}[
        what
    ]
    (tmp_path / "other").write_text("-----BEGIN PRIVATE KEY-----\n")
    monkeypatch.setenv(variable, str(named))
    with pytest.raises(SettingsError, match=variable) as caught:
        opened(uri, None if uri.startswith("https") else "https://127.0.0.1:1")
    assert str(named) in caught.value.message
    assert caught.value.remedy


def test_a_directory_that_is_none_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", f"/nonexistent:{tmp_path}")
    ensure_authorities()
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")
    with pytest.raises(SettingsError, match="SSL_CERT_DIR"):
        opened("https://localhost")


@pytest.mark.parametrize("uri", ["s3://bkt", "oss://bkt", "http://localhost", "file:///"])
def test_without_tls_nobody_asks(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOLD_BY:
        monkeypatch.setenv(name, "/nonexistent")
    opened(uri, "http://127.0.0.1:1").close()


def test_the_environment_comes_first(tls_authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    before = authorities_file()
    monkeypatch.setenv("SSL_CERT_DIR", "/somewhere")
    assert (authorities_file(), authorities_path()) == (before, "/somewhere")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_authority.file))
    assert authorities_file() == authorities_path() == str(tls_authority.file)


def test_on_a_machine_without_any_everybody_gets_certifi_s(bare_machine: None) -> None:
    ensure_authorities()
    assert os.environ["SSL_CERT_FILE"] == authorities_file() == certifi.where()


def test_a_usual_place_is_good_enough(
    bare_machine: None, tls_authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorities, "USUAL", (str(tls_authority.file),))
    ensure_authorities()
    assert authorities_file() == str(tls_authority.file)
    assert "SSL_CERT_FILE" not in os.environ


@pytest.mark.server
@pytest.mark.parametrize(("scheme", "transport"), [("https", "native"), ("oss", "native"), ("oss", "sdk")])
def test_a_directory_serves_too(
    scheme: str,
    transport: str,
    http_ranges: RangeServer,
    behind_tls: Callable[[str], str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = behind_tls(http_ranges.url)
    http_ranges.put("/bkt/x" if scheme == "oss" else "/x", b"abc")
    etag = next(iter(map(http_ranges.validators, http_ranges.objects)))["ETag"].strip('"')
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    store = opened("oss://bkt" if scheme == "oss" else url, url, transport)
    assert store.get_range(ObjectId(store.uri, "x", etag, 3), 0, 3) == b"abc"
    store.close()


@pytest.mark.server
def test_libcurl_believes_the_directory_unless_it_is_told_a_file(
    http_ranges: RangeServer,
    behind_tls: Callable[[str], str],
    folder: Path,
    strange_authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    http_ranges.put("/x", b"abc")
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    curl = new_handle(StoreSettings(connect_timeout=5, request_timeout=20), 1 << 16)
    curl.setopt(pycurl.URL, f"{behind_tls(http_ranges.url)}/x")
    trust(curl, None)
    assert curl.perform_rb() == b"abc"
    trust(curl, str(strange_authority.file))
    curl.setopt(pycurl.FRESH_CONNECT, 1)
    with pytest.raises(pycurl.error, match="certificate"):
        curl.perform_rb()
    curl.close()


@pytest.mark.server
def test_a_bundle_that_goes_away_is_no_missing_object(
    http_ranges: RangeServer,
    behind_tls: Callable[[str], str],
    tls_authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rust's client says FileNotFoundError of objects, and so did we of the bundle."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(tls_authority.file.read_bytes())
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    store = opened("s3://bkt", behind_tls(http_ranges.url))
    bundle.unlink()
    with pytest.raises((SettingsError, StoreUnavailable), match=r"bundle\.pem"):
        store.get_range(ObjectId(store.uri, "x", "", 3), 0, 3)
    store.close()
