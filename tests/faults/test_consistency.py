"""Objects that change or vanish behind a mount, and a store that goes away: errors in time, and only there.

Touch it when the errors that a program sees change (docs/semantics.md).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path

import pytest

from tests.servers.oss_server import OssServer
from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.buckets import fill_oss, fill_s3, oss_options
from tests.support.command import CommandMount, Home, command_home
from tests.support.mounting import needs_fuse, wait_for

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "consistency"
OBJECTS = {f"d/{name}": name.encode() * 1000 for name in ("alpha", "beta", "gamma", "delta")}
DEMAND_ONLY = ["--readahead", "off"]
"""So that nothing has been fetched before the test changes it."""


def read(path: Path) -> bytes | str:
    """The bytes, or the name of the errno."""
    try:
        return path.read_bytes()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def log_lines(home: Home, key: str) -> list[str]:
    """Warnings that name ``key``."""
    return [line for line in home.log.splitlines() if key in line and "WARNING" in line]


def check_changed_and_deleted(mount: CommandMount, objects: Mapping[str, bytes]) -> None:
    """``d/alpha`` was overwritten, ``d/beta`` deleted."""
    for name in ("alpha", "beta"):
        assert read(mount.path / "d" / name) == "ESTALE"
        assert read(mount.path / "d" / name) == "ESTALE"
        lines = log_lines(mount.home, f"{BUCKET}/d/{name}")
        assert 1 <= len(lines) <= 2, lines  # once for each worker that met it
        assert "run 'ossmount refresh'" in lines[0]
    for name in ("gamma", "delta"):
        assert read(mount.path / "d" / name) == objects[f"d/{name}"]
    errors = mount.rested_stats()["errors"]
    assert min(errors["ObjectChanged"], errors["ObjectMissing"]) >= 2
    assert sorted(path.name for path in (mount.path / "d").iterdir()) == ["alpha", "beta", "delta", "gamma"]


def test_oss_objects_change_and_vanish(home: Home, oss: OssServer) -> None:
    fill_oss(oss, BUCKET, OBJECTS)
    mount = home.mount(*oss_options(oss), *DEMAND_ONLY, f"oss://{BUCKET}/", env=oss.environment())
    oss.put(BUCKET, "d/alpha", b"other" * 1000)
    oss.delete(BUCKET, "d/beta")
    check_changed_and_deleted(mount, OBJECTS)
    mount.umount()


def test_s3_objects_change_and_vanish(home: Home, s3_gateway: S3Server) -> None:
    fill_s3(s3_gateway, BUCKET, OBJECTS)
    options = ["--endpoint-url", s3_gateway.endpoint_url, *DEMAND_ONLY]
    mount = home.mount(*options, f"s3://{BUCKET}/", env=s3_gateway.environment())
    fill_s3(s3_gateway, BUCKET, {"d/alpha": b"other" * 1000})
    s3_gateway.client().delete_object(Bucket=BUCKET, Key="d/beta")
    check_changed_and_deleted(mount, OBJECTS)
    mount.umount()


def test_local_files_change_and_vanish(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / BUCKET / "d"
    folder.mkdir(parents=True)
    for key, data in OBJECTS.items():
        (folder.parent / key).write_bytes(data)
    mount = home.mount(*DEMAND_ONLY, f"file://{folder.parent}/")
    (folder / "new").write_bytes(b"other" * 1000)
    (folder / "new").replace(folder / "alpha")
    (folder / "beta").unlink()
    check_changed_and_deleted(mount, OBJECTS)
    mount.umount()


def read_on(file: FileIO, got: bytearray) -> None:
    """Reads to the end of the file."""
    while more := file.read(1 << 20):
        got += more


def test_bytes_of_two_versions_never_mix(home: Home, oss: OssServer) -> None:
    """A large object is replaced while it is read: what was read is old, what follows is an error."""
    old, new = b"o" * 12_000_000, b"n" * 12_000_000
    oss.put(BUCKET, "large", old)
    options = [*oss_options(oss), *DEMAND_ONLY, "--cache-size", "0"]
    mount = home.mount(*options, f"oss://{BUCKET}/", env=oss.environment())
    got = bytearray()
    with (mount.path / "large").open("rb", buffering=0) as file:
        got += file.read(4096)
        oss.put(BUCKET, "large", new)
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            read_on(file, got)
    assert got == old[: len(got)]
    mount.umount()


@pytest.fixture
def through_relay(home: Home, s3_gateway: S3Server, s3_relay: Relay) -> CommandMount:
    """A mount with a deadline of three seconds, whose way to the store can be cut."""
    fill_s3(s3_gateway, "far-away", OBJECTS)
    options = ["--endpoint-url", s3_relay.endpoint_url, *DEMAND_ONLY, "--read-deadline", "3s"]
    return home.mount(*options, "s3://far-away/", env=s3_gateway.environment())


def test_store_goes_down_and_comes_back(through_relay: CommandMount, s3_relay: Relay) -> None:
    folder = through_relay.path / "d"
    assert read(folder / "alpha") == OBJECTS["d/alpha"]
    s3_relay.down = True
    started = time.monotonic()
    assert read(folder / "beta") in {"EIO", "ETIMEDOUT"}
    assert time.monotonic() - started < 4.5
    assert read(folder / "alpha") == OBJECTS["d/alpha"], "what was read is at hand without the store"
    assert log_lines(through_relay.home, "far-away/d/beta")
    s3_relay.down = False
    assert read(folder / "beta") == OBJECTS["d/beta"]
    assert read(folder / "gamma") == OBJECTS["d/gamma"]
    through_relay.umount()


def test_store_that_never_answers(through_relay: CommandMount, s3_relay: Relay) -> None:
    """The reader is answered within the deadline, and the mount can be ended."""
    folder = through_relay.path / "d"
    s3_relay.silent = True
    started = time.monotonic()
    assert read(folder / "alpha") == "ETIMEDOUT"
    assert 2.5 < time.monotonic() - started < 4.5
    s3_relay.silent = False
    assert read(folder / "gamma") == OBJECTS["d/gamma"]
    through_relay.umount()
    assert through_relay.home.left_behind() == []


def test_umount_while_requests_hang(through_relay: CommandMount, s3_relay: Relay) -> None:
    s3_relay.silent = True
    assert read(through_relay.path / "d" / "alpha") == "ETIMEDOUT"
    outcome = through_relay.home.run("umount", str(through_relay.path))
    assert outcome.status == 0, outcome.err
    wait_for(lambda: not through_relay.home.left_behind(), 15, lambda: through_relay.home.log)


def test_revoked_keys(home: Home, oss: OssServer) -> None:
    oss.add_account("temporary", "secret")
    fill_oss(oss, BUCKET, OBJECTS)
    environment = {"OSS_ACCESS_KEY_ID": "temporary", "OSS_ACCESS_KEY_SECRET": "secret"}
    mount = home.mount(*oss_options(oss), *DEMAND_ONLY, f"oss://{BUCKET}/", env=environment)
    assert read(mount.path / "d" / "alpha") == OBJECTS["d/alpha"]
    oss.remove_account("temporary")
    assert read(mount.path / "d" / "beta") == "EACCES"
    assert log_lines(home, f"{BUCKET}/d/beta")
    assert "secret" not in home.log
    oss.add_account("temporary", "secret")
    assert read(mount.path / "d" / "beta") == OBJECTS["d/beta"]
    mount.umount()


def test_server_errors_are_retried(home: Home, oss: OssServer) -> None:
    fill_oss(oss, BUCKET, OBJECTS)
    mount = home.mount(*oss_options(oss), *DEMAND_ONLY, f"oss://{BUCKET}/", env=oss.environment())
    oss.fail_next(503, "ServiceUnavailable", times=2)
    assert read(mount.path / "d" / "alpha") == OBJECTS["d/alpha"]
    oss.fail_next(500, "InternalError")
    assert read(mount.path / "d" / "beta") == OBJECTS["d/beta"]
    mount.umount()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda d: (d / "alpha").write_bytes(b"x"),
        lambda d: (d / "fresh").write_bytes(b"x"),
        lambda d: (d / "alpha").unlink(),
        lambda d: (d / "alpha").rename(d / "omega"),
        lambda d: (d / "sub").mkdir(),
        lambda d: (d / "alpha").chmod(0o777),
        lambda d: os.utime(d / "alpha"),
        lambda d: os.truncate(d / "alpha", 0),
        lambda d: (d / "link").symlink_to("alpha"),
        lambda d: os.setxattr(d / "alpha", "user.x", b"1"),
    ],
    ids=["write", "create", "unlink", "rename", "mkdir", "chmod", "utime", "truncate", "symlink", "setxattr"],
)
def test_nothing_can_be_written(attempt: Callable[[Path], object], read_only: CommandMount) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        attempt(read_only.path / "d")


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandMount]:
    """One mount for all that try to write."""
    folder = tmp_path_factory.mktemp("read-only")
    (folder / "source" / "d").mkdir(parents=True)
    (folder / "source" / "d" / "alpha").write_bytes(b"a")
    with command_home(folder / "home") as home:
        yield home.mount(f"file://{folder}/source/")
