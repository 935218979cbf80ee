"""The message between node plugin and sidecar: what is not exactly it is refused, and no descriptor leaks."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossmount.errors import MountError
from ossmount.k8s.exchange import (
    FILE_MAX,
    MESSAGE_MAX,
    Offer,
    encode_failure,
    failure_told,
    receive,
    send,
    volume_of,
)

OFFER = Offer("data", ("s3://bucket/train/",), {"layout": "labels"})


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def refused(pair: tuple[socket.socket, socket.socket], text: bytes, descriptors: list[int]) -> str:
    """Why a message is refused; every descriptor that came with it is closed."""
    before = open_descriptors()
    socket.send_fds(pair[0], [text], descriptors)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(MountError) as failed:
        receive(pair[1])
    assert open_descriptors() == before
    return failed.value.message


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs a usable /dev/fuse")
def test_round_trip(pair: tuple[socket.socket, socket.socket]) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    send(pair[0], OFFER, device)
    offer, passed = receive(pair[1])
    assert offer == OFFER
    assert os.fstat(passed).st_rdev == os.fstat(device).st_rdev
    assert not os.get_inheritable(passed)
    os.close(device)
    os.close(passed)


def test_a_file_is_no_fuse_device(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as stream:
        assert "not of /dev/fuse" in refused(pair, OFFER.encode(), [stream.fileno()])


def test_another_device(pair: tuple[socket.socket, socket.socket]) -> None:
    with Path("/dev/null").open() as stream:
        assert "not of /dev/fuse" in refused(pair, OFFER.encode(), [stream.fileno()])


@pytest.mark.parametrize("count", [0, 2, 4])
def test_exactly_one_descriptor(pair: tuple[socket.socket, socket.socket], count: int) -> None:
    with Path("/dev/null").open() as stream:
        assert str(count) in refused(pair, OFFER.encode(), [stream.fileno()] * count)


def test_too_many_descriptors(pair: tuple[socket.socket, socket.socket]) -> None:
    with Path("/dev/null").open() as stream:
        assert "too many" in refused(pair, OFFER.encode(), [stream.fileno()] * 9)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"[" * 50_000,
        json.dumps({"version": 1}).encode(),
        OFFER.encode()[:-1],
    ],
)
def test_garbage(pair: tuple[socket.socket, socket.socket], text: bytes) -> None:
    with Path("/dev/null").open() as stream:
        assert "no message" in refused(pair, text or b" ", [stream.fileno()])


def test_another_version(pair: tuple[socket.socket, socket.socket]) -> None:
    text = json.dumps(json.loads(OFFER.encode()) | {"version": 2}).encode()
    assert "version 2" in refused(pair, text, [])


def test_a_message_without_end(pair: tuple[socket.socket, socket.socket]) -> None:
    def talk() -> None:
        with contextlib.suppress(OSError):
            pair[0].sendall(b"x" * (4 * MESSAGE_MAX))

    talker = threading.Thread(target=talk)
    talker.start()
    with pytest.raises(MountError) as failed:
        receive(pair[1])
    pair[1].close()
    talker.join(10)
    assert str(MESSAGE_MAX) in failed.value.message


def test_volume_of_kubelets_target() -> None:
    folder, volume = volume_of("/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/data/mount")
    assert (str(folder), volume) == ("/var/lib/kubelet/pods/1/volumes", "data")


@pytest.mark.parametrize("target", ["/mnt", "/a/b/c/mount", "/pods/kubernetes.io~csi/data", "/"])
def test_other_targets_are_no_volumes(target: str) -> None:
    with pytest.raises(ValueError, match="/"):
        volume_of(target)


@pytest.mark.parametrize("letter", ["x", "\x01", "\u00e9", "\udcff"])
def test_an_error_of_any_length_is_read_again(letter: str) -> None:
    text = encode_failure(MountError(f"no such manifest: {letter * 9000}", letter * 9000))
    assert failure_told(text[:FILE_MAX]).startswith(f"no such manifest: {letter * 100}")
