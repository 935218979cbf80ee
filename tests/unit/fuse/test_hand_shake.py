"""The first exchange: what libfuse answers reaches the kernel with our limits in it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
import trio

from ossmount.config import MountSettings
from ossmount.errors import MountError
from ossmount.fuse.hand_shake import PARALLEL_DIROPS, HandShake, with_limits

INIT = b"FUSE_INIT"
ANSWER = struct.pack("=IiQIIIIHHI", 80, 0, 2, 7, 38, 1 << 17, 0xFFFF, 0, 0, 1 << 20).ljust(80, b"\1")
SETTINGS = MountSettings(kernel_read_ahead=2 << 20, max_background=400)


@pytest.fixture
def ends() -> Iterator[tuple[int, socket.socket]]:
    """(descriptor of the device, the kernel's end of it)."""
    device, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel:
        yield device.detach(), kernel


async def exchange(hand_shake: HandShake, device: int, answer: bytes | None) -> bytes:
    """What pyfuse3 and libfuse do; the request as libfuse reads it."""
    await hand_shake.wait_readable(device)
    request = os.read(device, 100)
    hand_shake.handled = True
    if answer is not None:
        os.write(device, answer)
    with pytest.raises(trio.ClosedResourceError):
        await hand_shake.wait_readable(device)
    return request


def run(hand_shake: HandShake, device: int, answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> bytes:
    requests: list[bytes] = []

    async def main(max_tasks: int) -> None:
        requests.append(await exchange(hand_shake, device, answer))

    monkeypatch.setattr("pyfuse3.main", main)
    assert hand_shake.answer("/mnt") == device
    return requests[0]


def test_the_kernel_hears_our_limits(
    ends: tuple[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, kernel = ends
    kernel.send(INIT)
    assert run(HandShake(SETTINGS), device, ANSWER, monkeypatch) == INIT
    answer = kernel.recv(1000)
    assert struct.unpack_from("=IIHH", answer, 24) == (2 << 20, 0xFFFF | PARALLEL_DIROPS, 400, 300)
    assert (answer[:24], answer[36:]) == (ANSWER[:24], ANSWER[36:])
    kernel.send(b"LOOKUP")  # the descriptor is the device again
    assert os.read(device, 100) == b"LOOKUP"
    assert not os.get_inheritable(device)
    os.close(device)


def test_an_error_stays_as_it_is() -> None:
    refused = struct.pack("=IiQ", 16, -71, 2)
    assert with_limits(refused, SETTINGS) == refused


def test_a_kernel_that_has_gone_is_left_to_others(
    ends: tuple[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, kernel = ends
    kernel.send(INIT)
    written: list[bytes] = []

    def unmounted(fd: int, data: bytes) -> int:
        if data[32:36] != struct.pack("=HH", 400, 300):
            return write(fd, data)
        written.append(data)
        raise ConnectionAbortedError(103, "Software caused connection abort")

    write = os.write
    monkeypatch.setattr("os.write", unmounted)
    run(HandShake(SETTINGS), device, ANSWER, monkeypatch)
    assert len(written) == 1
    os.close(device)


def test_a_library_that_gives_no_answer(
    ends: tuple[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, kernel = ends
    kernel.send(INIT)
    with pytest.raises(MountError, match="did not begin to talk"):
        run(HandShake(SETTINGS), device, None, monkeypatch)
    kernel.send(b"LOOKUP")
    assert os.read(device, 100) == b"LOOKUP"
    os.close(device)
