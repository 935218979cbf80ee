"""The metrics over HTTP: what a scrape, a browser and a port scanner get."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from ossmount.app.exporter import close_listener, open_listener, serve_metrics
from ossmount.errors import SettingsError

pytestmark = pytest.mark.trio


@contextlib.asynccontextmanager
async def serving(directory: Path, address: str = "127.0.0.1:0") -> AsyncIterator[socket.socket]:
    listener = open_listener(address)
    (directory / f"worker-{os.getpid()}.json").write_text(json.dumps({"store": {"get_requests": 3}}))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_metrics, listener, directory)
            yield listener
            nursery.cancel_scope.cancel()
    finally:
        close_listener(listener)


def get(port: int, method: str, path: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/metrics", 200, b"ossmount_store_requests_total{"),
        ("GET", "/metrics?name=x", 200, b"ossmount_build_info"),
        ("HEAD", "/metrics", 200, b""),
        ("GET", "/", 404, b"see /metrics"),
        ("POST", "/metrics", 405, b"GET it"),
    ],
)
async def test_answers(tmp_path: Path, method: str, path: str, status: int, text: bytes) -> None:
    async with serving(tmp_path) as listener:
        got = await trio.to_thread.run_sync(get, listener.getsockname()[1], method, path)
    assert got[0] == status
    assert got[1].startswith("text/plain; version=0.0.4")
    assert text in got[2]


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /metrics\r\n\r\n"])
async def test_what_is_no_http_gets_400_and_the_next_one_is_served(tmp_path: Path, data: bytes) -> None:
    async with serving(tmp_path) as listener:
        port = listener.getsockname()[1]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(data)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 400 ")
        assert (await trio.to_thread.run_sync(get, port, "GET", "/metrics"))[0] == 200


async def test_silent_clients_hold_no_scrape_up(tmp_path: Path) -> None:
    async with serving(tmp_path) as listener:
        port = listener.getsockname()[1]
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
        assert (await trio.to_thread.run_sync(get, port, "GET", "/metrics"))[0] == 200
        for stream in silent:
            await stream.aclose()


async def test_unix_socket_of_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    async with serving(tmp_path, str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(SettingsError, match="cannot listen on"):
            open_listener(f"unix:{path}")
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    assert not path.exists()


async def test_a_dead_mounts_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    close_listener(open_listener(str(path)))
    path.write_text("mine")
    with pytest.raises(SettingsError, match="cannot listen on"):
        open_listener(str(path))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("address", ["9100", "host:", "127.0.0.1:x", "127.0.0.1:99999", "203.0.113.9:80"])
async def test_bad_addresses_are_settings_errors(address: str) -> None:
    with pytest.raises(SettingsError, match=r"--metrics-listen|cannot listen"):
        open_listener(address)


async def test_a_busy_port_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"
        ):
            open_listener(f"127.0.0.1:{port}")
