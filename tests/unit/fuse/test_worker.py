"""What a child tells the supervisor."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from ossmount.config import MountSettings
from ossmount.errors import AccessDenied, IndexDamaged, ManifestError, MountError, OssmountError, decode_error
from ossmount.fuse.accept import Token
from ossmount.fuse.worker import (
    Kind,
    Plan,
    Status,
    _report_failure,
    _sole_cause,
    report_ready,
    reset_signals,
    run_child,
)


def reported(error: Exception | None) -> dict[str, Any]:
    """The message that comes out of the pipe."""
    reader, writer = os.pipe()
    plan = Plan(MountSettings(), cast("Any", None), None, cast("Any", None), Token(1), writer)
    if error is None:
        report_ready(plan, 3)
    else:
        _report_failure(plan, Kind.WORKER, 0, error)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    assert text.count(b"\n") == 1
    assert len(text) <= 4096, "a write of more than PIPE_BUF bytes may be torn"
    message: dict[str, Any] = json.loads(text)
    return message


def test_ready() -> None:
    assert reported(None) == {"ready": 3}


@pytest.mark.parametrize(
    "error",
    [
        IndexDamaged("cut off", "build it again"),
        AccessDenied("no"),
        ManifestError("labels.tsv", 3, "no tab", "see the manual"),
        IndexDamaged("\udcff.idx is cut off"),
    ],
)
def test_an_error_comes_back_as_it_was(error: OssmountError) -> None:
    found = decode_error(reported(error)["failed"])
    assert type(found) is type(error)
    assert (found.message, found.remedy) == (error.message, error.remedy)


def test_a_bug_is_named() -> None:
    found = decode_error(reported(ZeroDivisionError("x / 0"))["failed"])
    assert type(found) is MountError
    assert "worker 0: ZeroDivisionError('x / 0')" in found.message


def test_a_long_message_fits_the_pipe() -> None:
    assert decode_error(reported(IndexDamaged("ä" * 9000, "ö" * 9000))["failed"]).message.startswith("ää")


def test_groups_around_one_error_are_taken_off() -> None:
    error = IndexDamaged("cut off")
    assert _sole_cause(ExceptionGroup("", [ExceptionGroup("", [error])])) is error
    two = ExceptionGroup("", [error, ValueError()])
    assert _sole_cause(two) is two


def test_what_goes_wrong_in_a_child_is_reported() -> None:
    @asynccontextmanager
    async def serve(_: int) -> AsyncIterator[Any]:
        raise IndexDamaged("cut off", "build it again")
        yield

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        plan = Plan(MountSettings(), serve, None, cast("Any", Operations()), Token(1), writer)
        os._exit(run_child(Kind.WORKER, 0, plan))
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        found = decode_error(json.loads(file.read())["failed"])
    assert type(found) is IndexDamaged
    assert (found.message, found.remedy) == ("cut off", "build it again")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == Status.FAILED


def test_a_child_leaves_the_signals_of_the_terminal_to_the_supervisor() -> None:
    """And has no more of the supervisor's dispositions, nor its mask."""
    ours = (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP)
    child = os.fork()
    if child == 0:
        status = Status.FAILED
        try:
            wakeup = os.open(os.devnull, os.O_WRONLY | os.O_NONBLOCK)
            signal.set_wakeup_fd(wakeup)
            for signum in ours:
                signal.signal(signum, lambda *_: None)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            reset_signals()
            assert [signal.getsignal(signum) for signum in ours[:2]] == [signal.SIG_DFL] * 2
            assert [signal.getsignal(signum) for signum in ours[2:]] == [signal.SIG_IGN] * 2
            assert signal.set_wakeup_fd(-1) == -1
            assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
            status = Status.STOPPED
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == Status.STOPPED


# -- the end of a child -----------------------------------------------------------------------------------


class Operations:
    """Takes what a worker is bound to."""

    def bind(self, *_: Any) -> None:
        """Nobody asks."""


@asynccontextmanager
async def slow_to_close(told: int, go_on: int) -> AsyncIterator[Any]:
    """Says that it closes, and that it has closed once it is let."""
    try:
        yield None
    finally:
        with trio.CancelScope(shield=True):
            os.write(told, b"closing ")
            await trio.lowlevel.wait_readable(go_on)
            os.write(told, b"closed")


def ended(kind: Kind, plan: Callable[[int, int], Plan], before: Callable[[int], None]) -> tuple[bytes, int]:
    """What a child said until its end, and its status; it gets SIGTERM while it closes its rooms."""
    told, telling = os.pipe()
    letting, let = os.pipe()
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # as the supervisor forks
        os._exit(run_child(kind, 0, plan(telling, letting)))
    os.close(telling)
    before(child)
    said = os.read(told, 8)
    os.kill(child, signal.SIGTERM)
    os.write(let, b"!")
    said += os.read(told, 6)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for end in (told, letting, let):
        os.close(end)
    return said, status


def test_sigterm_cuts_no_workers_end_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor sends it as soon as it hears that the mount has ended."""

    async def unmounted(*_: Any) -> None:
        """The kernel's connection is gone at once."""

    monkeypatch.setattr("ossmount.fuse.worker.pyfuse3.main", unmounted)

    heard, ready = os.pipe()

    def plan(telling: int, letting: int) -> Plan:
        operations = cast("Any", Operations())
        serve = cast("Any", lambda _: slow_to_close(telling, letting))
        return Plan(MountSettings(), serve, None, operations, Token(1), ready)

    assert ended(Kind.WORKER, plan, lambda _: None) == (b"closing closed", Status.SESSION_ENDED)
    assert os.read(heard, 100) == b'{"ready": 0}\n{"ended": 0}\n'
    for end in (heard, ready):
        os.close(end)


def test_a_second_sigterm_cuts_no_prefetchers_end_short(tmp_path: Path) -> None:
    fetching = tmp_path / "fetching"
    os.mkfifo(fetching)

    def plan(telling: int, letting: int) -> Plan:
        async def prefetch(_: int) -> None:
            async with slow_to_close(telling, letting):
                fetching.write_text("now")
                await trio.sleep_forever()

        ready = os.open(os.devnull, os.O_WRONLY)
        return Plan(MountSettings(), cast("Any", None), prefetch, cast("Any", None), Token(1), ready)

    def first(child: int) -> None:
        assert fetching.read_text() == "now"
        os.kill(child, signal.SIGTERM)

    assert ended(Kind.PREFETCHER, plan, first) == (b"closing closed", Status.STOPPED)


def test_pushes_end_while_requests_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One may wait for a READ that this worker has still to accept."""
    told, telling = os.pipe()
    acceptors: list[Acceptor] = []

    class Acceptor:
        def __init__(self, *_: Any) -> None:
            self.stopped = trio.Event()
            self.install = self.suspend = self.resume = self.pass_on = self.pass_on_if_more = lambda: None
            acceptors.append(self)

        def stop(self) -> None:
            os.write(telling, b"accepting")
            self.stopped.set()

    class Pusher:
        push_nowait = None

        def close(self) -> None:
            trio.from_thread.run_sync(os.write, telling, b"pushing ")  # only while the loop goes on

    async def serving(*_: Any) -> None:
        os.write(telling, b"serving ")
        await acceptors[0].stopped.wait()

    @asynccontextmanager
    async def serve(_: int) -> AsyncIterator[Any]:
        yield None

    monkeypatch.setattr("ossmount.fuse.worker.Acceptor", Acceptor)
    monkeypatch.setattr("ossmount.fuse.worker.Pusher", Pusher)
    monkeypatch.setattr("ossmount.fuse.worker.pyfuse3.main", serving)
    ready = os.open(os.devnull, os.O_WRONLY)
    plan = Plan(MountSettings(), serve, None, cast("Any", Operations()), Token(1), ready)
    child = os.fork()
    if child == 0:
        os._exit(run_child(Kind.WORKER, 0, plan))
    os.close(telling)
    assert os.read(told, 8) == b"serving "
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == Status.STOPPED
    assert os.read(told, 100) == b"pushing accepting"
    os.close(told)
    os.close(ready)
