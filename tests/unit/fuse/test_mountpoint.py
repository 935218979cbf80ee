"""Mountpoints: what mountinfo says, what can be mounted on, and what to do about the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossmount.errors import DeviceUnavailable, MountpointUnusable
from ossmount.fuse import mountpoint
from ossmount.fuse.mountpoint import (
    Descriptor,
    Directory,
    all_mounts,
    check_device,
    check_directory,
    making_it_alone,
    parse_mountpoint,
    resolve,
    unmount,
)

MOUNTINFO = rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
42 22 0:39 / /mnt/my\040train\134x ro,nosuid - fuse.ossmount s3://bucket/a\040b ro,user_id=0
43 22 0:40 / /mnt/other rw,nosuid shared:3 master:2 - fuse.sshfs host:/ rw
"""


@pytest.fixture
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    path.write_bytes(MOUNTINFO)
    monkeypatch.setattr(mountpoint, "all_mounts", lambda: all_mounts(path))
    return path


def test_mountinfo_is_parsed_with_its_escapes(mountinfo: Path) -> None:
    (found,) = mountpoint.mounts()
    assert found.path == Path("/mnt/my train\\x")
    assert found.source == "s3://bucket/a b"
    assert found.connection == 39


def test_the_uppermost_mount_counts(mountinfo: Path) -> None:
    with mountinfo.open("ab") as file:
        file.write(b"44 43 0:41 / /mnt/other ro - fuse.ossmount s3://upper ro\n")
    upper = mountpoint.mounted_at(Path("/mnt/other"))
    assert upper is not None
    assert upper.source == "s3://upper"
    assert mountpoint.mounted_at(Path("/mnt")) is None


def test_this_machine_has_a_root() -> None:
    assert Path("/") in [found.path for found in all_mounts()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/dev/fd/5", Descriptor(5)),
        ("/dev/fd/x", Directory(Path("/dev/fd/x"))),
        ("mnt", Directory(Path("mnt"))),
    ],
)
def test_parse_mountpoint(text: str, expected: mountpoint.Mountpoint) -> None:
    assert parse_mountpoint(text) == expected


def test_a_mounted_path_is_never_touched(mountinfo: Path) -> None:
    # The path does not exist: any look at it below the mount table would say so.
    assert resolve(Path("/mnt/my train\\x")) == Path("/mnt/my train\\x")
    assert resolve(Path("/mnt/../mnt/my train\\x/")) == Path("/mnt/my train\\x")


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert check_directory(tmp_path / "link") == Directory(tmp_path / "real")


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(MountpointUnusable, match=r"does not exist; make it: 'mkdir -p .*/absent'"):
        check_directory(tmp_path / "absent")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountpointUnusable, match="is not a directory"):
        check_directory(tmp_path / "file")
    with pytest.raises(MountpointUnusable, match="Not a directory"):
        check_directory(tmp_path / "file" / "below")


def test_a_directory_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "thing").touch()
    with pytest.raises(MountpointUnusable, match=r"is not empty \(it holds 'thing'\)"):
        check_directory(tmp_path)


def test_an_empty_directory(tmp_path: Path) -> None:
    assert check_directory(tmp_path) == Directory(tmp_path)


@pytest.mark.parametrize(
    ("dead", "clean", "message"),
    [
        (False, True, "already shows s3://bucket/a b; unmount it first"),
        (True, False, "is a dead mount of s3://bucket/a b; clean it with 'ossmount umount"),
    ],
)
def test_our_own_mounts(
    mountinfo: Path, monkeypatch: pytest.MonkeyPatch, dead: bool, clean: bool, message: str
) -> None:
    monkeypatch.setattr(mountpoint, "is_dead", lambda path: dead)
    with pytest.raises(MountpointUnusable, match=message):
        check_directory(Path("/mnt/my train\\x"), clean)


def test_a_dead_mount_of_others_is_not_ours_to_clean(
    mountinfo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountpoint, "is_dead", lambda path: True)
    with pytest.raises(MountpointUnusable, match=r"dead fuse.sshfs mount; clean it with 'umount --lazy"):
        check_directory(Path("/mnt/other"), clean=True)


def test_one_process_at_a_time_mounts_on_a_directory(tmp_path: Path) -> None:
    place = Directory(tmp_path)
    with making_it_alone(place):
        with pytest.raises(MountpointUnusable, match=rf"^another process is just mounting on {tmp_path}"):
            making_it_alone(place).__enter__()
        with making_it_alone(Descriptor(5)):
            pass
    with making_it_alone(place):
        pass


def test_a_mount_that_was_made_since_the_check_is_seen(
    mountinfo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with mountinfo.open("ab") as file:
        file.write(b"44 43 0:41 / %b ro - fuse.ossmount s3://first ro\n" % os.fsencode(tmp_path))
    monkeypatch.setattr(mountpoint, "is_dead", lambda path: False)
    with pytest.raises(MountpointUnusable, match="already shows s3://first"):
        making_it_alone(Directory(tmp_path)).__enter__()


def test_unmounting_what_is_not_mounted(tmp_path: Path) -> None:
    with pytest.raises(MountpointUnusable, match="nothing is mounted on"):
        unmount(tmp_path)


def test_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "DEVICE", tmp_path / "fuse")
    with pytest.raises(DeviceUnavailable, match=r"there is no .*modprobe fuse.*--device /dev/fuse"):
        check_device()


def test_another_thing_in_the_devices_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").touch()
    monkeypatch.setattr(mountpoint, "DEVICE", tmp_path / "fuse")
    with pytest.raises(DeviceUnavailable, match=r"is not the FUSE device; .*--device /dev/fuse"):
        check_device()


def test_a_device_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "DEVICE_NUMBER", 0)
    (tmp_path / "fuse").touch()
    monkeypatch.setattr(mountpoint, "DEVICE", tmp_path / "fuse")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DeviceUnavailable, match="chmod 0666"):
        check_device()


def test_an_ordinary_user_needs_fusermount3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "DEVICE_NUMBER", 0)
    (tmp_path / "fuse").touch()
    monkeypatch.setattr(mountpoint, "DEVICE", tmp_path / "fuse")
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceUnavailable, match="fusermount3 is not installed; install the package fuse3"):
        check_device()
