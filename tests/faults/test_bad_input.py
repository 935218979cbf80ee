"""What cannot be mounted: one line that names the thing and the remedy, a status, and nothing left behind.

Touch it when another thing can be wrong with what a user gives.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from ossmount.index import FORMAT
from tests.servers.oss_server import OssServer
from tests.servers.process import closed_port
from tests.servers.relay import Relay
from tests.servers.s3 import S3Server
from tests.support.buckets import fill_oss, fill_s3, oss_options
from tests.support.command import Home, Outcome
from tests.support.mounting import needs_fuse, wait_for

pytestmark = [needs_fuse, pytest.mark.fuse]

BUCKET = "bad-input"
SETTINGS, SOURCE, INDEX, STORE, MOUNT = 2, 3, 4, 5, 6
"""Exit statuses, as :mod:`ossmount.errors` has them."""


def refused(home: Home, outcome: Outcome, status: int, *words: str, kept: int = 0) -> None:
    """One line with ``words`` and, after a semicolon, what to do; the status; nothing left behind.

    ``kept``: complete indexes that are kept for other mounts of a source that is all right itself.
    """
    assert outcome.status == status, outcome.err
    assert outcome.out == ""
    assert len(outcome.error_lines) == 1, outcome.err
    (line,) = outcome.error_lines
    assert re.fullmatch(r"ossmount: .+; .+", line), line
    assert not re.search(r"Traceback|Error\b|Exception|<\w+", line), line
    for word in words:
        assert word in line, line
    assert home.left_behind() == []
    files = [path for path in (home.cache / "indexes").rglob("*") if not path.is_dir()]
    assert len(files) == kept
    assert all(path.suffix == ".ossidx" for path in files)


@pytest.fixture
def local(tmp_path: Path) -> str:
    """A local source that is all right."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"content")
    return f"file://{tmp_path}/source/"


@pytest.fixture
def s3_home(home: Home, s3_gateway: S3Server) -> Home:
    """A home with the gateway's credentials, endpoint, and few retries; its bucket holds one object."""
    fill_s3(s3_gateway, BUCKET, {"p/one": b"1"})
    home.environment.update(s3_gateway.environment())
    home.environment.update(OSSMOUNT_ENDPOINT_URL=s3_gateway.endpoint_url, OSSMOUNT_RETRIES="1")
    return home


@pytest.fixture
def oss_home(home: Home, oss: OssServer) -> Home:
    """The same with the OSS server."""
    fill_oss(oss, BUCKET, {"p/one": b"1"})
    home.environment.update(oss.environment())
    home.environment.update(
        OSSMOUNT_ENDPOINT_URL=oss.endpoint_url, OSSMOUNT_REGION=oss.region, OSSMOUNT_RETRIES="1"
    )
    return home


def attempt(home: Home, *words: str, env: dict[str, str] | None = None) -> Outcome:
    """A mount on a fresh directory."""
    return home.run("mount", *words, str(home.directory()), env=env)


# -- stores -------------------------------------------------------------------------------------------


def test_missing_bucket(s3_home: Home) -> None:
    refused(s3_home, attempt(s3_home, "s3://bad-input-missing/p/"), STORE, "s3://bad-input-missing")


def test_missing_oss_bucket(oss_home: Home) -> None:
    refused(oss_home, attempt(oss_home, "oss://bad-input-missing/p/"), STORE, "oss://bad-input-missing")


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_s3_keys(name: str, s3_home: Home) -> None:
    outcome = attempt(s3_home, f"s3://{BUCKET}/p/", env={name: "WRONGWRONGWRONG"})
    refused(s3_home, outcome, STORE, f"s3://{BUCKET}", "credentials")
    assert "WRONG" not in outcome.err or name == "AWS_ACCESS_KEY_ID"


@pytest.mark.parametrize("name", ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"])
def test_wrong_oss_keys(name: str, oss_home: Home) -> None:
    outcome = attempt(oss_home, f"oss://{BUCKET}/p/", env={name: "WRONGWRONGWRONG"})
    refused(oss_home, outcome, STORE, f"oss://{BUCKET}")


def test_no_s3_keys(s3_home: Home) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del s3_home.environment[name]
    refused(s3_home, attempt(s3_home, f"s3://{BUCKET}/p/"), STORE, f"s3://{BUCKET}", "credentials")


def test_no_oss_keys(oss_home: Home) -> None:
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        del oss_home.environment[name]
    refused(oss_home, attempt(oss_home, f"oss://{BUCKET}/p/"), STORE, "OSS_ACCESS_KEY_ID")


@pytest.mark.parametrize("uri", [f"s3://{BUCKET}/p/", f"oss://{BUCKET}/p/"])
def test_nobody_listens_at_the_endpoint(uri: str, s3_home: Home, oss: OssServer) -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}"
    s3_home.environment.update(oss.environment(), OSSMOUNT_REGION="cn-hangzhou")
    outcome = attempt(s3_home, "--endpoint-url", nowhere, "--connect-timeout", "2s", uri)
    refused(s3_home, outcome, STORE, nowhere)


@pytest.mark.parametrize("uri", [f"s3://{BUCKET}/p/", f"oss://{BUCKET}/p/"])
def test_endpoint_that_has_no_address(uri: str, s3_home: Home, oss: OssServer) -> None:
    nowhere = "http://no-such-host.invalid"
    s3_home.environment.update(oss.environment(), OSSMOUNT_REGION="cn-hangzhou")
    outcome = attempt(s3_home, "--endpoint-url", nowhere, "--connect-timeout", "2s", uri)
    refused(s3_home, outcome, STORE, "no-such-host.invalid")


def test_empty_prefix(s3_home: Home) -> None:
    refused(s3_home, attempt(s3_home, f"s3://{BUCKET}/nothing/here/"), SOURCE, f"s3://{BUCKET}/nothing/here/")


def test_missing_local_directory(home: Home, tmp_path: Path) -> None:
    outcome = attempt(home, f"file://{tmp_path}/missing/")
    assert outcome.status in {SOURCE, STORE}
    refused(home, outcome, outcome.status, f"{tmp_path}/missing")


def test_unknown_scheme(home: Home) -> None:
    refused(home, attempt(home, "gopher://bucket/p/"), SETTINGS, "gopher://")


# -- manifests ----------------------------------------------------------------------------------------


def test_missing_local_manifest(oss_home: Home, tmp_path: Path) -> None:
    words = ["--manifest", str(tmp_path / "missing.tsv"), "--base-uri", f"oss://{BUCKET}/p/"]
    refused(oss_home, attempt(oss_home, *words), SOURCE, str(tmp_path / "missing.tsv"))


def test_missing_manifest_in_the_bucket(oss_home: Home) -> None:
    words = ["--manifest", f"oss://{BUCKET}/missing.tsv", "--base-uri", f"oss://{BUCKET}/p/"]
    outcome = attempt(oss_home, *words)
    assert outcome.status in {SOURCE, STORE}
    refused(oss_home, outcome, outcome.status, f"oss://{BUCKET}/missing.tsv")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("key\tsize\tetag\none\t1\te\ntwo\tmany\te\n", 3),
        ("key,size\none,1\ntwo,-5\n", 3),
        ("one\ntwo\n\nnul\0byte\n", 4),
        ("one\ns3://\n", 2),
    ],
)
def test_malformed_manifest(text: str, line: int, oss_home: Home, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text(text)
    outcome = attempt(oss_home, "--manifest", str(manifest), "--base-uri", f"oss://{BUCKET}/p/")
    refused(oss_home, outcome, SOURCE, f"{manifest}:{line}:")


def test_manifest_that_lists_a_missing_object(oss_home: Home, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("one\nmissing\n")
    outcome = attempt(oss_home, "--manifest", str(manifest), "--base-uri", f"oss://{BUCKET}/p/")
    assert outcome.status in {SOURCE, STORE}
    refused(oss_home, outcome, outcome.status, "missing", "--on-missing skip")


def test_empty_manifest(oss_home: Home, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("")
    outcome = attempt(oss_home, "--manifest", str(manifest), "--base-uri", f"oss://{BUCKET}/p/")
    refused(oss_home, outcome, SOURCE, str(manifest))


def test_labels_layout_without_labels(oss_home: Home, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("one\n")
    words = ["--manifest", str(manifest), "--base-uri", f"oss://{BUCKET}/p/"]
    outcome = attempt(oss_home, *words, "--layout", "labels", "--unlabelled", "skip")
    refused(oss_home, outcome, SOURCE, str(manifest), kept=1)  # the keys of the manifest, without the view


def test_bad_key_under_fail(oss_home: Home, oss: OssServer) -> None:
    oss.put(BUCKET, "odd//key", b"1")
    refused(
        oss_home, attempt(oss_home, "--on-bad-key", "fail", f"oss://{BUCKET}/odd/"), INDEX, "--on-bad-key"
    )


# -- index files --------------------------------------------------------------------------------------


@pytest.fixture
def index(home: Home, local: str, tmp_path: Path) -> Path:
    """An index of the local source."""
    path = tmp_path / "named.ossidx"
    assert home.run("index", "build", local, str(path)).status == 0
    return path


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_index(share: float, home: Home, index: Path) -> None:
    os.truncate(index, int(index.stat().st_size * share))
    refused(home, attempt(home, "--index", str(index)), INDEX, str(index))


def test_index_of_another_version(home: Home, index: Path) -> None:
    """A trailer that is right in everything but its format number (docs/index-format.md)."""
    data = bytearray(index.read_bytes())
    trailer = memoryview(data)[-64:]
    trailer[8:12] = struct.pack("<I", FORMAT + 1)
    trailer[40:48] = xxhash.xxh3_64_digest(bytes(trailer[:40]))
    trailer.release()
    index.write_bytes(data)
    refused(home, attempt(home, "--index", str(index)), INDEX, str(index), f"format {FORMAT + 1}")


def test_file_that_is_no_index(home: Home, tmp_path: Path) -> None:
    other = tmp_path / "picture.jpg"
    other.write_bytes(b"\xff\xd8\xff" * 5000)
    refused(home, attempt(home, "--index", str(other)), INDEX, str(other))


def test_index_and_no_source(home: Home, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.ossidx")
    refused(home, attempt(home, "--index", missing), SETTINGS, missing)


# -- mountpoints --------------------------------------------------------------------------------------


def test_missing_mountpoint(home: Home, local: str, tmp_path: Path) -> None:
    place = tmp_path / "nowhere"
    refused(home, home.run("mount", local, str(place)), MOUNT, str(place), "mkdir")


def test_mountpoint_that_is_a_file(home: Home, local: str, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    refused(home, home.run("mount", local, str(place)), MOUNT, str(place))


def test_mountpoint_not_empty(home: Home, local: str) -> None:
    place = home.directory()
    (place / "thesis.tex").touch()
    refused(home, home.run("mount", local, str(place)), MOUNT, str(place), "thesis.tex")


def test_already_mounted(home: Home, local: str) -> None:
    mount = home.mount(local)
    again = home.run("mount", local, str(mount.path))
    assert again.status == MOUNT
    assert len(again.error_lines) == 1
    assert f"ossmount umount {mount.path}" in again.err
    assert (mount.path / "file").read_bytes() == b"content"
    mount.umount()


def test_dead_mount_is_offered_to_be_cleaned(home: Home, local: str) -> None:
    mount = home.mount(local)
    for pid in [mount.supervisor(), *home.processes()]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not home.processes())
    again = home.run("mount", local, str(mount.path))
    assert again.status == MOUNT
    assert len(again.error_lines) == 1
    assert "--clean" in again.err
    assert f"ossmount umount {mount.path}" in again.err
    cleaned = home.mount("--clean", local, at=mount.path)
    assert (mount.path / "file").read_bytes() == b"content"
    cleaned.umount()
    assert home.left_behind() == []


def test_dead_mount_is_unmounted_by_umount(home: Home, local: str) -> None:
    mount = home.mount(local)
    for pid in [mount.supervisor(), *home.processes()]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not home.processes())
    mount.umount()
    assert home.left_behind() == []


def test_umount_of_what_is_not_mounted(home: Home) -> None:
    place = home.directory()
    refused(home, home.run("umount", str(place)), MOUNT, str(place))


# -- the machine --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trick",
    [
        "mount --bind /dev/null /dev/fuse",
        "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9",
    ],
)
def test_no_dev_fuse(trick: str, home: Home, local: str) -> None:
    """In a mount namespace of its own, where the device is a wrong one, or missing."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a mount namespace without /dev/fuse needs root and unshare")
    shell = ["unshare", "-m", "sh", "-c", f'{trick} && exec "$@"', "sh"]
    done = subprocess.run(
        [*shell, sys.executable, "-m", "ossmount", "mount", local, str(home.directory())],
        env=home.variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    refused(home, Outcome(done.returncode, done.stdout, done.stderr), MOUNT, "/dev/fuse")


@pytest.fixture
def tiny_disk(home: Home) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = home.path / "tiny"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a full disk needs root, to mount a small tmpfs")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], check=True, timeout=20)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, timeout=20)


def test_full_cache_disk(home: Home, tiny_disk: Path, oss: OssServer) -> None:
    """Reads go on and are right, though nothing more can be cached."""
    objects = {f"{n:02}": os.urandom(400_000) for n in range(20)}
    fill_oss(oss, BUCKET, objects)
    mount = home.mount(
        *oss_options(oss), "--cache-dir", str(tiny_disk), f"oss://{BUCKET}/", env=oss.environment()
    )
    for _ in range(2):
        assert {path.name: path.read_bytes() for path in mount.path.iterdir()} == objects
    mount.umount()
    assert not home.processes()


def test_cache_directory_that_cannot_be_made(home: Home, local: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(home, attempt(home, "--cache-dir", f"{tmp_path}/file/cache", local), 7, f"{tmp_path}/file/cache")


# -- Ctrl-C -------------------------------------------------------------------------------------------


def indexing_slowly(home: Home, relay: Relay) -> subprocess.Popen[str]:
    """A mount command whose first request to the store is never answered."""
    relay.silent = True
    words = ["--endpoint-url", relay.endpoint_url, f"s3://{BUCKET}/p/", str(home.directory())]
    process = home.start("mount", *words)
    wait_for(lambda: bool(relay.requests), 30)
    return process


def test_interrupt_while_a_slow_source_is_indexed(s3_home: Home, s3_relay: Relay) -> None:
    process = indexing_slowly(s3_home, s3_relay)
    started = time.monotonic()
    for pid in s3_home.processes():  # a terminal sends it to the whole foreground group
        os.kill(pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert (out, err) == ("", "ossmount: interrupted\n")
    assert time.monotonic() - started < 10
    assert s3_home.left_behind() == []
    assert not list((s3_home.cache / "indexes").glob("*"))


def test_the_command_is_killed_while_a_slow_source_is_indexed(s3_home: Home, s3_relay: Relay) -> None:
    process = indexing_slowly(s3_home, s3_relay)
    process.kill()
    assert process.communicate(timeout=30) == ("", "")  # whoever prepared the index has ended too
    wait_for(lambda: not s3_home.left_behind(), 10, lambda: repr(s3_home.left_behind()))
    assert not list((s3_home.cache / "indexes").glob("*"))


def test_sigint_to_the_command_alone(s3_home: Home, s3_relay: Relay) -> None:
    process = indexing_slowly(s3_home, s3_relay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    wait_for(lambda: not s3_home.left_behind(), 10, lambda: repr(s3_home.left_behind()))
