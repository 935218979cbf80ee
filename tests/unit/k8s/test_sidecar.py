"""Whom the sidecar takes a descriptor from: the node plugin, on a socket that is one, and nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ossmount.k8s.exchange import ERROR_FILE, SIDECAR, SOCKET, VOLUMES, Offer, send
from ossmount.k8s.sidecar import Keeper, Sidecar
from tests.support.mounting import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may listen as another user")

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of a volume, as the plugin makes it."""
    path = tmp_path / VOLUMES / "data"
    (path / SIDECAR).mkdir(parents=True)
    return path


@contextlib.contextmanager
def listening(place: Path, user: int) -> Iterator[socket.socket]:
    """A socket on which ``user`` listens: the kernel remembers who called listen(2) (unix(7))."""
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(place):
        server.bind(SOCKET)
        os.seteuid(user)
        try:
            server.listen()
        finally:
            os.seteuid(0)
        yield server


def complaint(place: Path) -> str:
    """What a sidecar that waits for the volume writes into its error file."""
    stop, written = threading.Event(), place / SIDECAR / ERROR_FILE
    keeper = threading.Thread(target=Keeper(place.parents[1], "data", 0, {}, stop).run)
    keeper.start()
    try:
        wait_for(written.exists, 20)
        message: dict[str, Any] = json.loads(written.read_text())
        return str(message["message"])
    finally:
        stop.set()
        keeper.join(20)


def test_somebody_else_listens(place: Path) -> None:
    with listening(place, NOBODY) as server:
        assert "user 65534 listens on the socket of volume data" in complaint(place)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(100) == b"", "nothing is sent to him"


def as_file(place: Path, elsewhere: Path) -> None:
    (place / SOCKET).write_text("no socket")


def as_link(place: Path, elsewhere: Path) -> None:
    (place / SOCKET).symlink_to(elsewhere / SOCKET)


@pytest.mark.parametrize("squat", [as_file, as_link])
def test_what_is_no_socket(place: Path, tmp_path: Path, squat: Callable[[Path, Path], None]) -> None:
    """A link is none, though it leads to one on which the right user listens."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with listening(elsewhere, 0) as server:
        squat(place, elsewhere)
        assert "is no socket" in complaint(place)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_directory_of_somebody_else(place: Path) -> None:
    with listening(place, 0):
        os.chown(place, NOBODY, -1)
        assert "belongs to user 65534 instead of 0" in complaint(place)


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK), reason="needs a descriptor of /dev/fuse")
def test_a_sidecar_ends_while_an_index_is_built(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume's process serves only when it has listed a bucket, for which a Pod that ends cannot wait."""
    program, began = tmp_path / "python", tmp_path / "began"
    program.write_text(f"#!/bin/sh\necho $$ > {began}.new && mv {began}.new {began}\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    stop, ending = threading.Event(), os.eventfd(0)
    keeper = threading.Thread(target=Keeper(place.parents[1], "data", 0, {}, stop, ending).run)
    with listening(place, 0) as server, Path("/dev/fuse").open("rb", buffering=0) as device:
        keeper.start()
        connection, _ = server.accept()
        with connection:
            send(connection, Offer("data", ("s3://bucket/",), {}), device.fileno())
        wait_for(began.exists, 20)
        stop.set()
        os.eventfd_write(ending, 1)
        keeper.join(20)
        ended = not keeper.is_alive()
        if not ended:
            os.kill(int(began.read_text()), signal.SIGKILL)
        os.close(ending)
    assert ended
    assert not (place / SIDECAR / ERROR_FILE).exists(), "nothing has failed"


def test_the_probe_finds_no_directory_of_a_volume(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It was unpublished a moment ago, or belongs to another user: nothing that were to be reported."""
    (place / SIDECAR).rmdir()
    assert Sidecar(tmp_path).check() == 1
    assert capfd.readouterr().err.startswith("ossmount: volume data: its directory sidecar: No such file")
