"""Going into the background: the caller learns whether it serves, and nothing holds its output."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ossmount.app.daemon import descriptors_named, in_background
from ossmount.errors import BucketMissing, MountError

PATIENCE = 20.0


def test_returns_when_it_serves_and_not_when_it_ends() -> None:
    go_on, tell = os.pipe()
    alive, life = os.pipe()

    def run(on_serving: Callable[[], None]) -> int:
        os.close(tell)
        on_serving()
        os.read(go_on, 1)
        return 0

    assert in_background(run) == 0
    os.close(life)
    assert not select.select([alive], [], [], 0)[0], "it ended before it was told to"
    os.close(tell)
    assert select.select([alive], [], [], PATIENCE)[0], "it did not end"
    os.close(go_on)
    os.close(alive)


def test_its_error_is_the_callers() -> None:
    def run(on_serving: Callable[[], None]) -> int:
        raise BucketMissing("no bucket s3://b", "check the name")

    with pytest.raises(BucketMissing, match="no bucket s3://b; check the name"):
        in_background(run)


def test_a_foreign_exception_is_one_line() -> None:
    with pytest.raises(MountError, match="the mount failed: ZeroDivisionError"):
        in_background(lambda on_serving: 1 // 0)


def test_death_before_serving_is_an_error() -> None:
    with pytest.raises(MountError, match=r"died before it served; run again with --foreground"):
        in_background(lambda on_serving: os._exit(3))


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("possible", [0, 1])
def test_a_daemon_that_cannot_be_forked_is_an_error_with_a_remedy(
    possible: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is forked twice, so that nobody has to reap it."""
    left, fork, before = [possible], os.fork, open_descriptors()

    def refuse() -> int:
        if not left[0]:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        left[0] -= 1
        return fork()

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(MountError, match=r"^the mount daemon cannot be started: Resource .* raise the limit"):
        in_background(lambda on_serving: 0)
    assert open_descriptors() == before


def test_it_leaves_terminal_directory_and_session(tmp_path: Path) -> None:
    found, answer = os.pipe()

    def run(on_serving: Callable[[], None]) -> int:
        streams = {str(Path(f"/proc/self/fd/{n}").readlink()) for n in (0, 1, 2)}
        before = os.getpgrp()
        on_serving()
        os.write(
            answer, f"{streams} {Path.cwd()} {before} {os.getpgrp()} {os.getsid(0)} {os.getpid()}".encode()
        )
        return 0

    assert in_background(run) == 0
    text = os.read(found, 1000).decode()
    assert text.startswith("{'/dev/null'} / ")
    before, group, session, pid = map(int, text.split()[2:])
    assert before == os.getpgrp(), "autofs lets nobody else to a mountpoint that is not mounted yet"
    assert group == session == pid
    os.close(found)
    os.close(answer)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_while_it_waits_leaves_no_mount(signum: signal.Signals) -> None:
    """A terminal sends to the whole group: the daemon goes on until it may end in order, and is asked to."""
    heard, say = os.pipe()
    wait, go_on = os.pipe()

    def run(on_serving: Callable[[], None]) -> int:
        os.write(say, b"starting\n")
        os.read(wait, 1)
        signal.signal(signal.SIGTERM, lambda *_: os.write(say, b"asked to end\n"))
        on_serving()
        os.write(say, b"ends\n")
        return 0

    command = os.fork()
    if command == 0:
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            in_background(run)
        finally:
            os._exit(1)
    os.close(say)
    with os.fdopen(heard) as said:
        assert said.readline() == "starting\n"
        os.killpg(command, signum)
        os.waitpid(command, 0)
        os.write(go_on, b".")
        assert said.read() == "asked to end\nends\n"
    os.close(wait)
    os.close(go_on)


def test_it_holds_nothing_that_the_command_was_started_with() -> None:
    """A lock's descriptor, or a pipe to whom waits for its end. What an option names is needed."""
    reading, lock = os.pipe()
    heard, named = os.pipe()
    for fd in (lock, named):
        os.set_inheritable(fd, True)

    def run(on_serving: Callable[[], None]) -> int:
        try:
            os.fstat(lock)
        except OSError:
            os.write(named, b"closed")
        on_serving()
        return 0

    assert in_background(run, keep=descriptors_named([f"AWS_SHARED_CREDENTIALS_FILE=/dev/fd/{named}"])) == 0
    for fd in (lock, named, reading):
        os.close(fd)
    with os.fdopen(heard, "rb") as said:
        assert said.read() == b"closed"
