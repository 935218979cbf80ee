"""Volumes of real stores through the driver: OSS with a Secret, S3 with the role of a service account.

Both servers check every signature. Keys are replaced while the mount serves: nothing is mounted anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.oss_server import OssServer
from tests.servers.sts import RoleServer, role_server
from tests.support.buckets import fill_oss, fill_s3
from tests.support.csi import Failed, Plugin, needs_root, plugin, wait_for

pytestmark = [needs_root, pytest.mark.fuse, pytest.mark.server]

FILES = {f"train/{name}.txt": f"this is {name}".encode() for name in ("first", "second", "third")}
EACH_FOR_ITSELF = {"readahead": "off", "retries": "0"}
"""A read asks the store at that moment: what was read before says nothing of the keys of now."""

TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"


def readable(path: Path) -> bool:
    try:
        return path.read_bytes() == FILES[f"train/{path.name}"]
    except PermissionError:
        return False


# -- OSS ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    with plugin(tmp_path_factory.mktemp("stores") / "home") as made:
        yield made


@pytest.fixture
def oss_volume(oss: OssServer) -> dict[str, str]:
    """Attributes of a bucket of OSS."""
    fill_oss(oss, "pictures", FILES)
    where = {"endpoint-url": oss.endpoint_url, "region": oss.region}
    return {"source": "oss://pictures/train/", **where, **EACH_FOR_ITSELF}


def test_oss_with_keys_that_are_replaced(driver: Plugin, oss: OssServer, oss_volume: dict[str, str]) -> None:
    target = driver.target("oss")
    keys = {"AccessKeyId": oss.access_key, "AccessKeySecret": oss.secret_key}
    driver.client.publish("oss", target, oss_volume, secrets=keys)
    assert readable(target / "first.txt")
    before = driver.processes()
    oss.add_account("STS.temporary", "secret-of-an-hour", "token-of-an-hour")
    oss.remove_account(oss.access_key)
    wait_for(lambda: not readable(target / "second.txt"))
    renewed = {
        "AccessKeyId": "STS.temporary",
        "AccessKeySecret": "secret-of-an-hour",
        "SecurityToken": "token-of-an-hour",
    }
    driver.client.publish("oss", target, oss_volume, secrets=renewed)
    wait_for(lambda: readable(target / "second.txt"), explain=lambda: driver.log)
    assert driver.processes() == before
    driver.client.unpublish("oss", target)
    assert driver.left_behind() == []
    for secret in (oss.secret_key, "secret-of-an-hour", "token-of-an-hour"):
        assert secret not in driver.log


def test_oss_with_wrong_keys(driver: Plugin, oss: OssServer, oss_volume: dict[str, str]) -> None:
    target = driver.target("oss")
    keys = {"akId": oss.access_key, "akSecret": "this-is-the-wrong-secret"}
    with pytest.raises(Failed) as failed:
        driver.client.publish("oss", target, oss_volume, secrets=keys)
    assert failed.value.code == "PERMISSION_DENIED"
    assert "this-is-the-wrong-secret" not in failed.value.details + driver.log
    assert driver.left_behind() == []


def test_oss_bucket_that_the_keys_may_not_list(
    driver: Plugin, oss: OssServer, oss_volume: dict[str, str]
) -> None:
    """The keys are good, a policy of the bucket forbids it."""
    target = driver.target("oss")
    keys = {"akId": oss.access_key, "akSecret": oss.secret_key}
    oss.fail_next(403, "AccessDenied", times=100)
    with pytest.raises(Failed) as failed:
        driver.client.publish("oss", target, oss_volume, secrets=keys)
    assert failed.value.code == "PERMISSION_DENIED"
    assert "AccessDenied" in failed.value.details
    assert "pictures" in failed.value.details
    assert oss.secret_key not in failed.value.details + driver.log
    assert driver.left_behind() == []


# -- S3 with the token of a service account ---------------------------------------------------------------


@pytest.fixture(scope="module")
def roles() -> Iterator[RoleServer]:
    with role_server() as made:
        fill_s3(made.s3, "pictures", FILES)
        yield made


@pytest.fixture(scope="module")
def role_driver(roles: RoleServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    """A driver whose operator names the STS."""
    environment = {"AWS_ENDPOINT_URL_STS": roles.sts_url}
    with plugin(tmp_path_factory.mktemp("roles") / "home", environment=environment) as made:
        yield made


def role_volume(
    roles: RoleServer, token: str, prefix: str = "train/", transport: str = "sdk"
) -> dict[str, str]:
    """What kubelet passes for a volume with a role and an audience in ``tokenRequests``."""
    where = {"endpoint-url": roles.s3.endpoint_url, "region": roles.s3.region, "addressing-style": "path"}
    given = {"sts.amazonaws.com": {"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"}}
    volume = {"source": f"s3://pictures/{prefix}", "role-arn": roles.role_arn, "transport": transport}
    return {**where, **volume, **EACH_FOR_ITSELF, TOKENS: json.dumps(given)}


def test_s3_with_a_role_whose_token_is_replaced(role_driver: Plugin, roles: RoleServer) -> None:
    target = role_driver.target("role")
    roles.accepted = {"first-token"}
    role_driver.client.publish("role", target, role_volume(roles, "first-token"))
    assert readable(target / "first.txt")
    assert set(roles.presented) == {"first-token"}
    before = role_driver.processes()
    roles.accepted = {"second-token"}
    role_driver.client.publish("role", target, role_volume(roles, "second-token"))
    assert readable(target / "second.txt")
    assert roles.presented[-1] == "second-token"
    assert role_driver.processes() == before
    role_driver.client.unpublish("role", target)
    assert role_driver.left_behind() == []
    assert "-token" not in role_driver.log


def test_s3_with_a_role_and_the_native_transport(role_driver: Plugin, roles: RoleServer) -> None:
    """It signs with the keys of the role, and sends their session token."""
    target = role_driver.target("native")
    roles.accepted = {"native-token"}
    role_driver.client.publish("native", target, role_volume(roles, "native-token", transport="native"))
    assert all(readable(target / Path(name).name) for name in FILES)
    role_driver.client.unpublish("native", target)
    assert role_driver.left_behind() == []


@pytest.mark.parametrize("transport", ["native", "sdk"])
def test_s3_with_a_token_that_sts_does_not_take(
    role_driver: Plugin, roles: RoleServer, transport: str
) -> None:
    """The other prefix was never listed: a listing that the node keeps would do for a mount."""
    target = role_driver.target("role")
    roles.accepted = set()
    volume = role_volume(roles, "strange-token", f"unseen-{transport}/", transport)
    with pytest.raises(Failed) as failed:
        role_driver.client.publish("role", target, volume)
    assert failed.value.code == "PERMISSION_DENIED"
    assert "InvalidIdentityToken" in failed.value.details
    assert roles.presented[-1] == "strange-token"
    assert "strange-token" not in failed.value.details + role_driver.log
    assert role_driver.left_behind() == []
