"""The OSS test server serves foreign clients: oss2, opendal's own signer and the vendor's C++ connector."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import opendal
import oss2
import pytest
import requests

from tests.servers.oss_server import OssServer, oss_server
from tests.support.host_names import host_names, needs_host_names

pytestmark = pytest.mark.server

KEYS = ["a", "a/b", "a//b", "./x", "../x", "x/", "é", "e\u0301", "a b\n", "%2E", "?q", "a+b&c=d#e"]


def bucket(server: OssServer, version: str, **options: object) -> oss2.Bucket:
    auth = oss2.make_auth(server.access_key, server.secret_key, version)
    return oss2.Bucket(
        auth, server.endpoint_url, "bkt", region=server.region, is_verify_object_strict=False, **options
    )


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_oss2_reads_writes_and_lists(oss: OssServer, version: str) -> None:
    oss.create_bucket("bkt")
    client = bucket(oss, version)
    for key in KEYS:
        client.put_object(key, key.encode())
    assert [client.get_object(key).read() for key in KEYS] == [key.encode() for key in KEYS]
    assert [row.key for row in oss2.ObjectIterator(client, max_keys=3)] == sorted(KEYS)
    assert [row.key for row in oss2.ObjectIteratorV2(client, max_keys=3)] == sorted(KEYS)
    assert client.get_bucket_info().location == "oss-cn-hangzhou"
    client.delete_object("a")
    with pytest.raises(oss2.exceptions.NoSuchKey):
        client.get_object("a")


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_common_prefixes_are_listed_once(oss: OssServer, version: str) -> None:
    for key in ["a/1", "a/2", "b", "c/d/1", "c/e"]:
        oss.put("bkt", key, b"")
    rows = [row.key for row in oss2.ObjectIteratorV2(bucket(oss, version), delimiter="/", max_keys=1)]
    assert rows == ["a/", "b", "c/"]


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_signed_urls_are_checked(oss: OssServer, version: str) -> None:
    oss.put("bkt", "a", b"data")
    url = bucket(oss, version).sign_url("GET", "a", 60)
    assert requests.get(url, timeout=10).content == b"data"
    forged = requests.get(url.replace("/a?", "/b?"), timeout=10)
    assert forged.status_code == 403
    assert "SignatureDoesNotMatch" in forged.text


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("offset", [-1000.0, 1000.0])
def test_a_wrong_clock_is_refused(oss: OssServer, version: str, offset: float) -> None:
    oss.put("bkt", "a", b"data")
    oss.state.clock_offset = offset
    with pytest.raises(oss2.exceptions.ServerError, match="RequestTimeTooSkewed"):
        bucket(oss, version).get_object("a")


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_temporary_keys_need_their_token(oss: OssServer, version: str) -> None:
    oss.put("bkt", "a", b"data")
    oss.add_account("STS.x", "secret", "token")
    provider = oss2.credentials.StaticCredentialsProvider("STS.x", "secret", "token")
    kinds = {"v1": oss2.ProviderAuth, "v4": oss2.ProviderAuthV4}
    client = oss2.Bucket(kinds[version](provider), oss.endpoint_url, "bkt", region=oss.region)
    assert client.get_object("a").read() == b"data"
    provider.credentials.security_token = "other"
    with pytest.raises(oss2.exceptions.ServerError, match="InvalidSecurityToken"):
        client.get_object("a")


def test_ranges_outside_the_object(oss: OssServer) -> None:
    oss.put("bkt", "a", b"0123456789")
    client = bucket(oss, "v4")
    assert client.get_object("a", (8, 20)).read() == b"0123456789"
    standard = {"x-oss-range-behavior": "standard"}
    assert client.get_object("a", (8, 20), headers=standard).read() == b"89"
    with pytest.raises(oss2.exceptions.ServerError, match="InvalidRange"):
        client.get_object("a", (10, 20), headers=standard)


def test_opendals_own_signature_passes(oss: OssServer) -> None:
    oss.put("bkt", "a/b", b"data")
    operator = opendal.Operator(
        "oss",
        bucket="bkt",
        endpoint=oss.endpoint_url,
        addressing_style="path",
        access_key_id=oss.access_key,
        access_key_secret=oss.secret_key,
    )
    assert operator.read("a/b") == b"data"


CONNECTOR = """
import hashlib, sys
from osstorchconnector import OssMapDataset
endpoint, keys, config = sys.argv[1:]
read = lambda item: (item.key, hashlib.sha256(item.read()).hexdigest())
data = OssMapDataset.from_prefix("oss://bkt/t/", endpoint=endpoint, cred_path=keys, config_path=config,
                                 region="cn-hangzhou", transform=read)
for i in range(len(data)):
    print(*data[i])
"""
"""In a process of its own: the connector keeps the interpreter lock while it waits for the server."""


@needs_host_names
@pytest.mark.skipif(
    importlib.util.find_spec("osstorchconnector") is None, reason="osstorchconnector is not installed"
)
def test_the_vendors_connector_reads_the_same_bytes(tmp_path: Path) -> None:

    keys, config = tmp_path / "keys.json", tmp_path / "config.json"
    with oss_server() as server, host_names(f"bkt.{server.state.domain}", server.state.domain):
        objects = {f"t/{i}.bin": bytes([i]) * (50_000 * i + 1) for i in range(5)}
        for key, data in objects.items():
            server.put("bkt", key, data)
        keys.write_text(
            json.dumps(
                {
                    "AccessKeyId": server.access_key,
                    "AccessKeySecret": server.secret_key,
                    "SecurityToken": "",
                    "Expiration": "2099-01-01T00:00:00Z",
                }
            )
        )
        config.write_text(json.dumps({"logLevel": 2, "logPath": str(tmp_path / "connector.log")}))
        endpoint = f"http://{server.state.domain}:{server.port}"
        run = subprocess.run(
            [sys.executable, "-c", CONNECTOR, endpoint, str(keys), str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-2000:]
        rows = dict(line.rsplit(" ", 1) for line in run.stdout.splitlines() if ".bin " in line)
    found = {key.removeprefix("/bkt/"): digest for key, digest in rows.items()}
    assert found == {key: hashlib.sha256(data).hexdigest() for key, data in objects.items()}
    assert server.requests["GET"] >= len(objects)
