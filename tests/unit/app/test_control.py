"""The control socket between a real client and a real server, without a mount."""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossmount import __version__
from ossmount.app import control, control_server
from ossmount.app.control import ControlClient
from ossmount.app.control_answers import ControlAnswers
from ossmount.app.control_protocol import LONGEST_LINE, MOST_INODES, PROTOCOL, SOCKET_NAME
from ossmount.app.control_server import ControlServer
from ossmount.app.runtime import MountRecord
from ossmount.app.shared_level import SharedLevel
from ossmount.errors import MountError, SourceError
from ossmount.fuse.contract import Supervising
from ossmount.readahead import Observer, observation_pipe
from ossmount.readahead.messages import KNOWN_ORDER, Decoder, Known, Observation, Warm, Withdrawn


class Loop(Supervising):
    """The supervisor's loop, in a thread."""

    def __init__(self, server: ControlServer) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe()
        self.stopped = threading.Event()
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self.watch(server.fileno(), server.accept)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                key.data(self)

    def stop(self) -> None:
        self.stopped.set()

    def signal_children(self, signum: int) -> None:
        raise AssertionError(signum)

    def statistics(self) -> Mapping[str, int]:
        return {"workers": 2, "prefetchers": 1, "restarts": 0, "resends": 0}

    def watch(self, fd: int, callback: Callable[[Supervising], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)

    @property
    def watched(self) -> int:
        return len(self._selector.get_map()) - 2

    def end(self) -> None:
        os.write(self._waker, b"x")
        self._thread.join(10)
        self._selector.close()
        os.close(self._wake)
        os.close(self._waker)


class World:
    """A mount as far as its control socket goes; prefetchers are the reading end of a pipe."""

    def __init__(
        self, runtime: Path, mountpoint: Path, *, prefetchers: bool = True, warms: bool = True
    ) -> None:
        self.mountpoint = str(mountpoint)
        self.directory = MountRecord(self.mountpoint, "s3://b/", "/no/index", os.getpid()).write()
        self.level = SharedLevel()
        self.reading, self._writing = observation_pipe()
        observer = Observer(self._writing) if prefetchers else None
        self.answers = ControlAnswers(self.directory, observer, self.level, warms=warms)
        self.server = ControlServer(self.directory, self.answers.answer, self.answers.left)
        self.loop = Loop(self.server)
        self._decoder = Decoder()

    @property
    def path(self) -> Path:
        return self.directory / SOCKET_NAME

    def heard(self) -> list[Observation]:
        """What the prefetchers have been told since the last call."""
        try:
            return list(self._decoder.feed(os.read(self.reading, 1 << 20)))
        except BlockingIOError:
            return []

    def raw(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(self.path))
        peer.settimeout(10)
        return peer

    def close(self) -> None:
        self.loop.end()
        self.server.close()
        os.close(self.reading)
        os.close(self._writing)


@pytest.fixture
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    # Far longer than a unix address may be.
    runtime = tmp_path / ("deep" * 20) / ("deeper" * 20)
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(runtime))
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(runtime, tmp_path / f"mnt{len(made)}", **options))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds()


@pytest.fixture
def client(world: World) -> Iterator[ControlClient]:
    with ControlClient(world.mountpoint) as made:
        yield made


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose socket has a short path, for clients that know no trick."""
    path = tmp_path_factory.mktemp("s")
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(path))
    made = World(path, path / "mnt")
    yield made
    made.close()


def ask(peer: socket.socket, line: bytes) -> dict[str, Any]:
    peer.sendall(line)
    return answer(peer)


def answer(peer: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        part = peer.recv(1 << 16)
        assert part, f"closed after {data!r}"
        data += part
    return dict(json.loads(data))


def line(request: str, **fields: Any) -> bytes:
    return json.dumps({"v": PROTOCOL, "request": request, **fields}).encode() + b"\n"


def test_only_the_owner_may_open_the_socket(world: World) -> None:
    status = world.path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert stat.S_IMODE(world.directory.stat().st_mode) == 0o700


def test_other_users_are_refused_even_where_they_could_connect(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, lambda *_: {}, allowed=frozenset({os.geteuid() + 1}))
    loop = Loop(server)
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(str(tmp_path / SOCKET_NAME))
    assert answer(peer)["error"] == "denied"
    assert peer.recv(10) == b""
    peer.close()
    loop.end()
    server.close()
    assert not (tmp_path / SOCKET_NAME).exists()


def test_version_and_stats(world: World, client: ControlClient) -> None:
    stats = world.directory / "stats"
    (stats / "worker-1.json").write_text('{"store": {"get_requests": 3}}')
    (stats / "worker-2.json").write_text('{"store": {"get_requests": 4}}')
    told = client.version()
    assert (told["version"], told["protocol"]) == (__version__, PROTOCOL)
    assert {"stats", "order", "warm", "drain", "log-level", "refresh"} <= set(told["requests"])
    assert client.stats()["counters"]["store"]["get_requests"] == 7
    assert client.stats()["supervisor"]["workers"] == 2
    with ControlClient(os.path.relpath(world.mountpoint)) as relative:
        assert relative.version() == told


def test_an_order_longer_than_pipe_and_request_arrives_whole(world: World, client: ControlClient) -> None:
    inos = list(range(5, 200_005))
    got: list[int] = []
    begins: list[bool] = []

    def read() -> None:
        while len(got) < len(inos):
            for known in world.heard():
                assert isinstance(known, Known)
                got.extend(known.inos)
                begins.append(known.begin)

    reader = threading.Thread(target=read)
    reader.start()
    assert client.order(inos) == len(inos)
    reader.join(10)
    assert got == inos
    assert begins == [True] + [False] * (len(begins) - 1)


def test_paths_are_passed_on_while_the_rest_is_looked_up(
    world: World, client: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inodes(record: MountRecord, files: Sequence[str]) -> Iterator[Sequence[int]]:
        if files[0] == "nope":
            raise SourceError("no 'nope' in this mount")
        yield [5, 6]
        if "nope" in files:
            raise SourceError("no 'nope' in this mount")
        yield [7]

    monkeypatch.setattr(control, "inodes_of", inodes)
    assert client.order(["a", "b", "c"]) == 3
    assert world.heard() == [Known((5, 6), True), Known((7,), False)]
    assert client.order(["a", "b", "c"], begin=False) == 3
    assert world.heard() == [Known((5, 6, 7), False)]
    with pytest.raises(SourceError):
        client.order(["a", "b", "nope"])
    assert world.heard() == [Known((5, 6), True), Withdrawn(KNOWN_ORDER)]
    with pytest.raises(SourceError):
        client.order(["a", "b", "nope"], begin=False)
    with pytest.raises(SourceError):
        client.order(["nope", "a"])
    assert world.heard() == [], "the order before stays"


def test_wishes_are_withdrawn_with_their_client(world: World, client: ControlClient) -> None:
    client.warm(7, [1, 2, 3])
    client.warm(8, [4])
    client.withdraw(8)
    client.withdraw()
    assert world.heard() == [Warm(7, (1, 2, 3)), Warm(8, (4,)), Withdrawn(8), Withdrawn(0)]
    client.close()
    while not (heard := world.heard()):
        pass
    assert heard == [Withdrawn(7)]


def test_log_level_reaches_every_process(world: World, client: ControlClient) -> None:
    pid = os.fork()
    if pid == 0:
        while world.level.get() != "debug":
            pass
        os._exit(0)
    try:
        assert client.log_level("debug") == "info"
    finally:
        client.log_level("debug")
        assert os.waitpid(pid, 0)[1] == 0
    with pytest.raises(MountError, match="no log level"):
        client.log_level("loud")
    client.log_level("info")


def test_drain_stops_the_supervisor(world: World, client: ControlClient) -> None:
    client.drain()
    assert world.loop.stopped.wait(10)


def test_refresh_is_not_available_until_it_is_wired(world: World, client: ControlClient) -> None:
    with pytest.raises(MountError, match="cannot be refreshed"):
        client.refresh()
    asked = []
    world.answers.refresh = asked.append
    client.refresh()
    assert asked == [world.loop]


def test_what_a_mount_does_not_have_is_said(worlds: Callable[..., World]) -> None:
    with ControlClient(worlds(prefetchers=False).mountpoint) as client:
        with pytest.raises(MountError, match=r"no prefetchers; mount with"):
            client.order([1])
        assert client.version()["protocol"] == PROTOCOL
    with (
        ControlClient(worlds(warms=False).mountpoint) as client,
        pytest.raises(MountError, match="no disk cache"),
    ):
        client.warm(1, [1])


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(MountError, match="no ossmount mount of this user"):
        ControlClient(tmp_path).version()
    with pytest.raises(MountError, match="no ossmount mount of this user"):
        ControlClient(tmp_path).order(["a"])


def test_other_versions_are_told_which_one_is_spoken(short: World) -> None:
    with short.raw() as peer:
        for value in (b'{"v": 2, "request": "version"}\n', b'{"request": "version"}\n'):
            told = ask(peer, value)
            assert (told["ok"], told["error"]) == (False, "version")
            assert "only 1" in told["message"]
        assert ask(peer, line("version"))["ok"]


BAD_REQUESTS = [
    (line("nonsense"), "unknown"),
    (b'{"v": 1, "request": ["version"]}\n', "unknown"),
    (line("order"), "invalid"),
    (line("order", inos="all"), "invalid"),
    (line("order", inos=[1.5]), "invalid"),
    (line("order", inos=[True]), "invalid"),
    (line("order", inos=[-1]), "invalid"),
    (line("order", inos=[0]), "invalid"),
    (line("order", inos=[1 << 64]), "invalid"),
    (line("order", inos=[1], begin=1), "invalid"),
    (line("order", inos=[1] * (MOST_INODES + 1)), "too-long"),
    (line("warm", inos=[1]), "invalid"),
    (line("warm", inos=[1], batch=0), "invalid"),
    (line("warm", inos=[1], batch=1 << 64), "invalid"),
    (line("warm", inos=[1], batch=True), "invalid"),
    (line("log-level"), "invalid"),
    (line("withdraw", batch="x"), "invalid"),
    (b"[]\n", "malformed"),
    (b"\n", "malformed"),
    (b"\xff\xfe\n", "malformed"),
    (b"[" * 100_000 + b"\n", "malformed"),
]


@pytest.mark.parametrize(("request_line", "code"), BAD_REQUESTS)
def test_bad_requests_get_an_answer_and_change_nothing(short: World, request_line: bytes, code: str) -> None:
    with short.raw() as peer:
        told = ask(peer, request_line)
    assert (told["ok"], told["error"]) == (False, code)
    with short.raw() as other:
        assert ask(other, line("version"))["ok"]
    assert short.heard() == []


def test_an_endless_line_is_cut_off(short: World) -> None:
    with short.raw() as peer:
        with pytest.raises(OSError, match=r"Broken pipe|reset"):  # noqa: PT012 - either call may see it first
            for _ in range(64):
                peer.sendall(b"x" * LONGEST_LINE)
        with short.raw() as other:
            assert ask(other, line("version"))["ok"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_garbage_never_ends_the_server(short: World, data: bytes) -> None:
    with short.raw() as peer:
        peer.sendall(data + b"\n")
    with short.raw() as other:
        assert ask(other, line("version"))["ok"]


def test_slow_clients_hold_nobody_up(short: World) -> None:
    silent = [short.raw() for _ in range(4)]
    for i, peer in enumerate(silent):
        peer.sendall(line("version")[: 5 + i])
    with short.raw() as peer:
        for piece in (line("version")[i : i + 1] for i in range(len(line("version")))):
            peer.sendall(piece)
        assert answer(peer)["ok"]
    for peer, i in zip(silent, range(4), strict=True):
        peer.sendall(line("version")[5 + i :])
        assert answer(peer)["ok"]
        peer.close()


def test_a_client_that_never_reads_is_cut_off(short: World) -> None:
    (short.directory / "stats" / "worker-1.json").write_text(
        json.dumps({"x": {f"n{i}": i for i in range(3000)}})
    )
    with short.raw() as peer:
        with pytest.raises(OSError, match=r"Broken pipe|reset"):  # noqa: PT012 - one of many
            for _ in range(100_000):
                peer.sendall(line("stats"))
        with short.raw() as other:
            assert ask(other, line("version"))["ok"]


def test_too_many_clients_the_longest_silent_goes(short: World) -> None:
    first = short.raw()
    assert ask(first, line("version"))["ok"]
    rest = [short.raw() for _ in range(control_server.MOST_CONNECTIONS)]
    assert all(ask(peer, line("version"))["ok"] for peer in rest)
    assert first.recv(10) == b""
    assert short.loop.watched == control_server.MOST_CONNECTIONS
    for peer in [first, *rest]:
        peer.close()


def test_several_requests_in_one_piece(short: World) -> None:
    with short.raw() as peer:
        peer.sendall(line("version") + line("stats"))
        data = b""
        while data.count(b"\n") < 2:
            data += peer.recv(1 << 16)
    assert [json.loads(reply)["ok"] for reply in data.splitlines()] == [True, True]


def test_a_forks_client_connects_for_itself(world: World, client: ControlClient) -> None:
    assert client.version()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            before = client._socket
            status = 0 if client.version()["protocol"] == PROTOCOL else 2
            own = client._socket
            assert own is not before
            assert client.version()
            assert own is client._socket
        except AssertionError:
            status = 3
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert client.version()["protocol"] == PROTOCOL


def test_a_copy_in_a_child_leaves_the_socket_alone(world: World) -> None:
    pid = os.fork()
    if pid == 0:
        world.server.close_copies()
        os._exit(0)
    os.waitpid(pid, 0)
    with ControlClient(world.mountpoint, timeout=control.TIMEOUT) as client:
        assert client.version()
