"""The client of the control socket where a mount takes little, answers badly, or not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from ossmount.app import control
from ossmount.app.control import ControlClient
from ossmount.app.control_protocol import MOST_INODES, SOCKET_NAME
from ossmount.app.runtime import MountRecord, runtime_directory
from ossmount.errors import MountError

TIMEOUT = 0.05
"""Seconds; whoever waits for the end of them gets it soon."""


class Taking(ControlClient):
    """A client whose mount takes so many inode numbers of each request, and then none."""

    def __init__(self, *takes: int, timeout: float = control.TIMEOUT) -> None:
        super().__init__("/mnt", timeout)
        self._takes = chain(takes, repeat(0))
        self.asked: list[dict[str, Any]] = []
        self.taken: list[int] = []

    def record(self) -> MountRecord:
        return MountRecord(self.mountpoint, "s3://b/", "/no/index", 1)

    def request(self, name: str, **fields: Any) -> dict[str, Any]:
        self.asked.append(fields)
        passed = next(self._takes)
        self.taken += fields.get("inos", [])[:passed]
        return {"ok": True, "passed": passed}


def test_what_was_not_taken_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "FULL_PAUSE", 0)
    client, inos = Taking(3, 0, 0, MOST_INODES, 7), list(range(1, MOST_INODES + 11))
    assert client.order(inos) == len(inos)
    assert client.taken == inos
    assert [asked["begin"] for asked in client.asked] == [True] + [False] * 4
    client = Taking(0, 1)
    client.withdraw(5)
    assert client.asked == [{"batch": 5}] * 2
    with pytest.raises(MountError, match="takes nothing"):
        Taking(timeout=TIMEOUT).warm(1, [1])


def connected(client: ControlClient) -> socket.socket:
    """The other end of the connection that ``client`` has from now on; pieces arrive one by one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(TIMEOUT)
    client._socket = ours
    return theirs


@pytest.mark.parametrize("told", [b"", b'{"ok": true', b"nonsense\n"])
@pytest.mark.parametrize("ends", [False, True])
def test_a_spoilt_answer_spoils_no_other(told: bytes, ends: bool) -> None:
    client = ControlClient("/mnt")
    with connected(client) as mount:
        mount.sendall(told)
        if ends:
            mount.shutdown(socket.SHUT_WR)
        with pytest.raises(MountError, match="did not answer"):
            client.version()
    assert client._socket is None, "an answer that comes late is not taken for the next"
    with client, connected(client) as mount:
        mount.sendall(b'{"ok": true, "ver')
        mount.sendall(b'sion": "1"}\n{"ok": true, "version": "2"}\n')
        assert [client.version()["version"] for _ in range(2)] == ["1", "2"]
    assert client._socket is None


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], socket.socket]]:
    """``listening(backlog)`` gives the control socket of a mount at ``/mnt``, which lets nobody in."""
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    place = runtime_directory("/mnt")
    place.mkdir(parents=True)
    with ExitStack() as stack:

        def make(backlog: int) -> socket.socket:
            mount = stack.enter_context(socket.socket(socket.AF_UNIX))
            mount.bind(str(place.relative_to(tmp_path) / SOCKET_NAME))
            mount.listen(backlog)
            return mount

        yield make


@pytest.mark.parametrize(
    ("lets_in", "lives", "told"),
    [
        (True, True, "did not answer: timed out"),
        (False, True, "takes nothing"),
        (True, False, "no ossmount mount of this user"),
    ],
)
def test_nobody_waits_for_ever(
    listening: Callable[[int], socket.socket], lets_in: bool, lives: bool, told: str
) -> None:
    """A mount that hangs, one with a queue before its socket, and what a killed one left."""
    with listening(1 if lets_in else 0) as mount, socket.socket(socket.AF_UNIX) as first:
        first.connect(mount.getsockname())
        if not lives:
            mount.close()
        with pytest.raises(MountError, match=told):
            ControlClient("/mnt", TIMEOUT).version()
