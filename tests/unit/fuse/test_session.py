"""Mount options and the states of a session."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path
from typing import Any, cast

import pytest

from ossmount.config import MountSettings
from ossmount.fuse import session as sessions
from ossmount.fuse.mountpoint import Directory, Mounted
from ossmount.fuse.operations import Operations
from ossmount.fuse.session import NOTIFY_RESEND, MountSession, State, mount_options


def test_options_of_every_mount() -> None:
    options = mount_options(MountSettings(), "s3://bucket/train/")
    assert options == {"ro", "default_permissions", "fsname=s3://bucket/train/", "subtype=ossmount"}
    assert "allow_other" in mount_options(MountSettings(allow_other=True), "s3://bucket")


@pytest.mark.parametrize(
    ("source", "name"),
    [("a,b", "fsname=a\\,b"), ("a\\b", "fsname=a\\\\b"), ("file:///ä", "fsname=file:///\\xe4")],
)
def test_a_source_cannot_smuggle_an_option(source: str, name: str) -> None:
    assert name in mount_options(MountSettings(), source)


def session(device: int = -1) -> MountSession:
    operations = Operations.for_settings(MountSettings())
    return MountSession(Directory(Path("/nowhere")), operations, device)


def test_a_mount_only_moves_forward() -> None:
    made = session()
    made.advance(State.SERVING)
    made.advance(State.DRAINING)
    with pytest.raises(ValueError, match="from DRAINING to SERVING"):
        made.advance(State.SERVING)


def test_resend_is_one_header() -> None:
    reader, writer = os.pipe()
    assert session(writer).resend()
    assert struct.unpack("=IiQ", os.read(reader, 100)) == (16, 7, 0) == struct.unpack("=IiQ", NOTIFY_RESEND)
    os.close(reader)
    os.close(writer)


def test_a_kernel_that_cannot_resend_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    made = session(reader)  # writing to the read end fails, as EINVAL of an old kernel does
    assert [made.resend(), made.resend()] == [False, False]
    assert len(caplog.records) == 1
    assert "Linux 6.9" in caplog.text
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("there", "ended"), [(57, True), (56, False)])
def test_only_its_own_mount_is_detached(there: int, ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is at its place may be an automount below it, or a mount that followed."""
    unmounted: list[Path] = []
    monkeypatch.setattr(sessions, "mounted_at", lambda path: Mounted(path, "autofs", "systemd-1", there))
    monkeypatch.setattr(sessions, "unmount", unmounted.append)
    made = session()
    made.connection = 57
    assert made.detach() is ended
    assert len(unmounted) == ended


def test_what_nobody_will_answer_is_refused() -> None:
    """All that is waiting, and what had been accepted by workers that died; a FORGET has no answer."""
    device, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    device.setblocking(False)
    for opcode, unique in ((15, 5), (2, 6), (14, 8)):
        kernel.send(struct.pack("=IIQQIIIHH", 40, opcode, unique, 1, 0, 0, 0, 0, 0))
    assert session(device.fileno()).refuse()
    answers = [kernel.recv(100) for _ in range(3)]
    assert answers == [NOTIFY_RESEND, *(struct.pack("=IiQ", 16, -errno.ENOTCONN, to) for to in (5, 8))]
    device.close()
    kernel.close()


def test_a_device_that_cannot_be_read_is_not_taken_for_one_that_has_ended(tmp_path: Path) -> None:
    device = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert not session(device).refuse()
    os.close(device)


def test_what_the_kernel_does_not_hand_out_again_is_not_refused() -> None:
    device, writer = os.pipe2(os.O_NONBLOCK)
    assert not session(device).refuse()
    os.close(device)
    os.close(writer)


def test_nothing_is_closed_twice() -> None:
    made = session()
    made.advance(State.CLOSED)
    made.close()  # would unmount what pyfuse3 no longer has
    assert made.state is cast("Any", State.CLOSED)
