"""What goes wrong around a volume: the code that the specification asks for, no secrets, no leftovers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process import closed_port
from tests.servers.s3 import S3Server
from tests.support.csi import Failed, Plugin, needs_root, plugin

pytestmark = [needs_root, pytest.mark.fuse]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    """A driver that shows no files of the node, and has a directory of indexes."""
    home = tmp_path_factory.mktemp("bad")
    (home / "indexes").mkdir()
    with plugin(home / "home", "--index-dir", str(home / "indexes")) as made:
        yield made


@pytest.fixture
def driver(running: Plugin) -> Iterator[Plugin]:
    """The same; what a test that failed left behind is not found by the next."""
    yield running
    assert running.sweep() == []


@pytest.fixture
def bucket(s3_gateway: S3Server) -> dict[str, str]:
    """Attributes of a bucket with one object."""
    name = f"csi-{uuid.uuid4().hex[:12]}"
    client = s3_gateway.client()
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="train/a.txt", Body=b"from the bucket")
    return {"source": f"s3://{name}/train/", **endpoint(s3_gateway.endpoint_url)}


def endpoint(url: str) -> dict[str, str]:
    return {"endpoint-url": url, "addressing-style": "path", "retries": "0", "region": "us-east-1"}


def keys(server: S3Server, secret: str | None = None) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": secret or server.secret_key}


def refused(driver: Plugin, context: dict[str, str], **fields: object) -> Failed:
    """How a publish is refused; nothing of it is left."""
    target = driver.target("bad")
    with pytest.raises(Failed) as failed:
        driver.client.publish("bad", target, context, **fields)
    assert driver.left_behind() == []
    return failed.value


def test_bucket_with_keys_of_the_volume(driver: Plugin, s3_gateway: S3Server, bucket: dict[str, str]) -> None:
    """Keys are seen by the store's SDK only; they stand nowhere but in files of root's."""
    target = driver.target("good")
    driver.client.publish("good", target, bucket, secrets=keys(s3_gateway))
    assert (target / "a.txt").read_bytes() == b"from the bucket"
    [folder] = driver.secrets.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    for file in folder.iterdir():
        assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, 0)
    for pid in driver.processes():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended meanwhile
            for name in ("cmdline", "environ"):
                assert s3_gateway.secret_key.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    written = driver.log + "".join(path.read_text() for path in driver.state.rglob("*") if path.is_file())
    assert s3_gateway.secret_key not in written
    driver.client.publish("good", target, bucket, secrets=keys(s3_gateway) | {"AWS_SESSION_TOKEN": "renewed"})
    assert json.loads((folder / "aws.json").read_text())["SessionToken"] == "renewed"
    driver.client.unpublish("good", target)
    assert driver.left_behind() == []


@pytest.mark.parametrize(
    ("secrets", "code", "names"),
    [
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "key-value"}, "UNAUTHENTICATED", "AWS_SECRET_ACCESS_KEY", id="half"
        ),
        pytest.param({"AccessKeySecret": "key-value"}, "UNAUTHENTICATED", "AccessKeyId", id="half of OSS"),
        pytest.param({"password": "key-value"}, "INVALID_ARGUMENT", "password", id="unknown key"),
    ],
)
def test_secrets_that_are_none(
    driver: Plugin, bucket: dict[str, str], secrets: dict[str, str], code: str, names: str
) -> None:
    failed = refused(driver, bucket, secrets=secrets)
    assert failed.code == code
    assert names in failed.details
    assert "key-value" not in failed.details + driver.log


def test_no_secret_at_all(driver: Plugin, bucket: dict[str, str]) -> None:
    assert refused(driver, bucket).code == "UNAUTHENTICATED"


def test_role_without_a_token(driver: Plugin, bucket: dict[str, str]) -> None:
    failed = refused(driver, bucket | {"role-arn": "arn:aws:iam::1:role/train"})
    assert failed.code == "UNAUTHENTICATED"
    assert "tokenRequests" in failed.details


def test_wrong_keys(driver: Plugin, s3_gateway: S3Server, bucket: dict[str, str]) -> None:
    failed = refused(driver, bucket, secrets=keys(s3_gateway, "this-is-the-wrong-secret"))
    assert failed.code == "PERMISSION_DENIED"
    assert "this-is-the-wrong-secret" not in failed.details + driver.log


def test_missing_bucket(driver: Plugin, s3_gateway: S3Server, bucket: dict[str, str]) -> None:
    failed = refused(driver, bucket | {"source": "s3://no-such-bucket-here/"}, secrets=keys(s3_gateway))
    assert failed.code == "NOT_FOUND"
    assert "no-such-bucket-here" in failed.details


def test_empty_prefix(driver: Plugin, s3_gateway: S3Server, bucket: dict[str, str]) -> None:
    failed = refused(driver, bucket | {"source": bucket["source"] + "nothing/"}, secrets=keys(s3_gateway))
    assert failed.code == "NOT_FOUND"


def test_store_that_is_away(driver: Plugin, s3_gateway: S3Server, bucket: dict[str, str]) -> None:
    away = endpoint(f"http://127.0.0.1:{closed_port()}")
    assert refused(driver, bucket | away, secrets=keys(s3_gateway)).code == "UNAVAILABLE"


@pytest.mark.parametrize(
    "context",
    [
        {"source": "file:///etc/"},
        {"source": "/etc"},
        {"manifest": "/etc/passwd", "base-uri": "s3://bucket/"},
        {"objects": "etc/passwd"},
        {"manifest": "s3://bucket/list", "base-uri": "file:///etc/"},
        {"index": "/etc/passwd"},
        {"index": "../secret.ossidx"},
        {"source": "s3://bucket/", "label-from": "table:/etc/passwd#key=a,label=b"},
        {"source": "s3://bucket/", "view": "/etc/passwd"},
    ],
)
def test_files_of_the_node_are_not_shown(driver: Plugin, context: dict[str, str]) -> None:
    failed = refused(driver, context)
    assert failed.code == "INVALID_ARGUMENT"
    assert "root:" not in failed.details + driver.log


def test_a_manifest_cannot_lead_to_files_of_the_node(
    driver: Plugin, s3_gateway: S3Server, bucket: dict[str, str]
) -> None:
    name = bucket["source"].split("/")[2]
    s3_gateway.client().put_object(Bucket=name, Key="list", Body=b"file:///etc/passwd\n")
    context = {**bucket, "manifest": f"s3://{name}/list"}
    del context["source"]
    failed = refused(driver, context, secrets=keys(s3_gateway))
    assert failed.code == "INVALID_ARGUMENT"
    assert "may not be opened" in failed.details


def test_index_of_the_node(driver: Plugin, tmp_path: Path) -> None:
    """An index that many nodes share is named by its file name; links out of its directory are no names."""
    assert refused(driver, {"index": "missing.ossidx"}).code == "NOT_FOUND"
    indexes = driver.home.parent / "indexes"
    (indexes / "link").symlink_to("/etc/passwd")
    assert refused(driver, {"index": "link"}).code == "INVALID_ARGUMENT"
    (indexes / "damaged.ossidx").write_bytes(b"x" * 5000)
    assert refused(driver, {"index": "damaged.ossidx"}).code == "INTERNAL"


def test_target_on_a_full_disk(driver: Plugin, s3_gateway: S3Server, bucket: dict[str, str]) -> None:
    target = driver.target("bad", "pod-full")
    command = ["mount", "-t", "tmpfs", "-o", "size=16k,nr_inodes=1", "tmpfs", str(target.parent)]
    subprocess.run(command, check=True, timeout=10)
    try:
        with pytest.raises(Failed) as failed:
            driver.client.publish("bad", target, bucket, secrets=keys(s3_gateway))
    finally:
        subprocess.run(["umount", str(target.parent)], check=True, timeout=10)
    assert failed.value.code == "RESOURCE_EXHAUSTED"
    assert driver.left_behind() == []


@contextlib.contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """A file system at ``directory`` that takes neither file nor directory."""
    directory.mkdir(parents=True, exist_ok=True)
    options = "size=16k,nr_inodes=1,mode=777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True, timeout=10)


@pytest.mark.parametrize("name", ["volumes", "secrets", "cache", "runtime"])
def test_full_disk_below_the_driver(
    tmp_path: Path, s3_gateway: S3Server, bucket: dict[str, str], name: str
) -> None:
    """Where it keeps records, credentials, indexes and blocks, and the sockets of mounts."""
    with plugin(tmp_path / "home") as driver, full_disk(driver.home / name):
        target = driver.target("bad")
        with pytest.raises(Failed) as failed:
            driver.client.publish("bad", target, bucket, secrets=keys(s3_gateway))
        assert failed.value.code == "RESOURCE_EXHAUSTED", failed.value.details
        assert "No space left" in failed.value.details
        assert s3_gateway.secret_key not in failed.value.details + driver.log
        assert not target.exists()
        assert driver.processes() == []
        assert [path for path in driver.mounts() if path.name != name] == []


def test_full_disk_of_the_sidecars_directory(
    driver: Plugin, s3_gateway: S3Server, bucket: dict[str, str]
) -> None:
    """An emptyDir has a limit, and the Pod's containers write into it."""
    target = driver.target("bad", "pod-full-dir")
    with full_disk(driver.empty_dir("pod-full-dir")):
        with pytest.raises(Failed) as failed:
            driver.client.publish("bad", target, bucket | {"serve": "sidecar"}, secrets=keys(s3_gateway))
        assert failed.value.code == "RESOURCE_EXHAUSTED", failed.value.details
        assert not target.exists()
    assert driver.left_behind() == []


def test_target_that_is_no_directory(driver: Plugin, bucket: dict[str, str], tmp_path: Path) -> None:
    target = driver.target("file")
    target.write_text("x")
    with pytest.raises(Failed) as failed:
        driver.client.publish("v", target, bucket)
    assert failed.value.code == "INVALID_ARGUMENT"
    target.unlink()
    target.symlink_to(tmp_path)
    with pytest.raises(Failed) as failed:
        driver.client.publish("v", target, bucket)
    assert failed.value.code == "INVALID_ARGUMENT"
    target.unlink()
    assert driver.left_behind() == []


def test_mount_of_somebody_else_on_the_target(driver: Plugin, bucket: dict[str, str]) -> None:
    target = driver.target("foreign")
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(target)], check=True, timeout=10)
    try:
        for call in (
            lambda: driver.client.publish("v", target, bucket),
            lambda: driver.client.unpublish("v", target),
        ):
            with pytest.raises(Failed) as failed:
                call()
            assert failed.value.code == "INTERNAL"
            assert "tmpfs" in failed.value.details
        assert driver.mounts() == [target]
    finally:
        subprocess.run(["umount", str(target)], check=True, timeout=10)
    driver.client.unpublish("v", target)
    assert driver.left_behind() == []


# -- the driver's own socket ----------------------------------------------------------------------------


def started(home: Path, *words: str) -> tuple[int, str]:
    """Status and the one line of a driver that cannot start."""
    made = Plugin(home)
    command = [*made.command(), *words]
    ended = subprocess.run(
        command, env=made.variables(), cwd="/", capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.returncode, ended.stderr


def test_socket_squatted_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "csi.sock").write_text("mine")
    status, line = started(tmp_path)
    assert status == 2
    assert "csi.sock" in line
    assert (tmp_path / "csi.sock").read_text() == "mine"


def test_socket_of_somebody_who_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "csi.sock"))
        listening.listen()
        status, line = started(tmp_path)
        assert status == 2
        assert "another process" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--endpoint", "tcp://127.0.0.1:1"), "no unix socket"),
        (("--endpoint", f"unix:///{'x' * 120}"), "107"),
        (("--endpoint", "unix:///no/such/dir/csi.sock"), "does not exist"),
        (("--node-id", ""), "--node-id"),
        (("--driver-name", "no name"), "domain name"),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path: Path, words: tuple[str, str], says: str) -> None:
    status, line = started(tmp_path, *words)
    assert status == 2
    assert says in line


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(tmp_path / "csi.sock"))
    with contextlib.suppress(FileExistsError):
        tmp_path.mkdir()
    made = Plugin(tmp_path)
    try:
        made.start()
        assert made.answers()
        assert made.kill(15) == 0
        assert not os.path.lexists(tmp_path / "csi.sock")
    finally:
        made.end()
