"""What the service manager hears, over a real socket. Touch it when another state is told."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossmount.app.notify import Service

SECONDS = 5.0
"""How long a datagram on a local socket may take on a busy machine."""


class Unasked:
    """A supervisor of which nothing may be asked."""

    def __getattr__(self, name: str) -> None:
        raise AssertionError(name)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(SECONDS)
        yield told


@pytest.fixture
def service(listening: socket.socket) -> Service:
    return Service.of({"NOTIFY_SOCKET": listening.getsockname()}, os.getpid())


def test_ready_and_stopping(service: Service, listening: socket.socket) -> None:
    service.ready("serving file:///x on /mnt")
    service.stopping()
    assert listening.recv(4096) == b"READY=1\nSTATUS=serving file:///x on /mnt"
    assert listening.recv(4096).splitlines()[0] == b"STOPPING=1"


def test_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind("")  # the kernel chooses an abstract name (unix(7))
        told.settimeout(SECONDS)
        name = told.getsockname().decode()
        Service.of({"NOTIFY_SOCKET": f"@{name[1:]}"}, 1).alive()
        assert told.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_other_addresses_are_silent(address: str) -> None:
    assert Service.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"}, 1) == Service()


@pytest.mark.parametrize(
    ("variables", "period"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_this_process(variables: dict[str, str], period: float | None) -> None:
    assert Service.of({"NOTIFY_SOCKET": "/run/systemd/notify", **variables}, 7).period == period


def test_nobody_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Service(str(tmp_path / "gone")).ready("x")
    assert "cannot be told" in caplog.text


def test_a_full_queue_does_not_block(service: Service, listening: socket.socket) -> None:
    for _ in range(2000):  # net.unix.max_dgram_qlen is 10 or 512
        service.alive()
    assert listening.recv(4096) == b"WATCHDOG=1"


def test_signs_of_life_at_every_half_period(listening: socket.socket) -> None:
    service = Service(listening.getsockname(), period=0.02)
    with service.watched() as timers:
        ((descriptor, on_timer),) = timers.items()
        for _ in range(3):
            assert select.select([descriptor], [], [], SECONDS)[0], "the timer does not run"
            on_timer(Unasked())  # type: ignore[arg-type]
            assert listening.recv(4096) == b"WATCHDOG=1"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_whole_second_is_a_period_too(listening: socket.socket) -> None:
    with Service(listening.getsockname(), period=2.0).watched() as timers:
        assert not select.select([*timers], [], [], 0)[0]


def test_unwatched_needs_no_timer(service: Service) -> None:
    with service.watched() as timers:
        assert timers == {}
