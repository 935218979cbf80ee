"""Errands and timers of the supervisor. Touch it when it waits for something else."""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ossmount.fuse import errands
from ossmount.fuse.errands import Errands
from ossmount.fuse.timers import Timers


class Loop:
    """What the supervisor offers to errands."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.errands = Errands(self.watch, self.unwatch, lambda: None)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.selector.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        self.selector.unregister(fd)

    def run(self) -> None:
        """Until nothing is watched any more."""
        deadline = time.monotonic() + 20
        while self.selector.get_map():
            assert time.monotonic() < deadline
            for key, _ in self.selector.select(1):
                key.data()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.errands.end(0.5)
    made.selector.close()


def own_children() -> list[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123
        return file.read().split()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_result_comes_from_another_process(loop: Loop) -> None:
    heard: list[bytes] = []
    before = own_children()
    loop.errands.run(lambda: b"%d" % os.getpid(), heard.append)
    loop.run()
    assert int(heard[0]) != os.getpid()
    assert own_children() == before


def test_long_results(loop: Loop) -> None:
    heard: list[bytes] = []
    loop.errands.run(lambda: bytes(1 << 20), heard.append)
    loop.run()
    assert heard == [bytes(1 << 20)]


def fail() -> bytes:
    raise ValueError("as told")


def die() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b"never"


def test_an_errand_that_cannot_be_begun_is_told_as_nothing(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    heard: list[bytes] = []
    monkeypatch.setattr(os, "fork", refuse)
    before, mask = open_descriptors(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    loop.errands.run(lambda: b"never", heard.append)
    assert heard == [b""]
    assert open_descriptors() == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


@pytest.mark.parametrize("work", [fail, die])
def test_death_is_told_as_nothing(loop: Loop, work: Callable[[], bytes]) -> None:
    heard: list[bytes] = []
    loop.errands.run(work, heard.append)
    loop.run()
    assert heard == [b""]


def stubborn() -> bytes:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def test_called_off(loop: Loop) -> None:
    """An errand cleans up at SIGTERM; what does not end is killed; nothing is told."""
    heard: list[bytes] = []
    before = own_children()
    reading, writing = os.pipe()

    def work() -> bytes:
        try:
            os.write(writing, b"r")
            while True:
                select.select([], [], [], 0.02)  # a signal just before a pause(2) would not end that
        finally:
            os.write(writing, b"cleaned up")

    loop.errands.run(work, heard.append)
    assert os.read(reading, 1) == b"r"
    loop.errands.run(stubborn, heard.append)
    loop.errands.end(0.5)
    assert os.read(reading, 20) == b"cleaned up"
    assert heard == []
    assert own_children() == before
    os.close(reading)
    os.close(writing)


def test_one_that_no_signal_ends_is_not_waited_for(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own_children()
    loop.errands.run(lambda: b"", lambda _: None)
    (pid,) = set(own_children()) - set(before)
    with monkeypatch.context() as patched:
        patched.setattr(errands, "KILLED_SECONDS", 0.0)
        patched.setattr(errands, "_reaped", lambda _: False)  # as of a process that waits in the kernel
        assert loop.errands.end(0.0) == [int(pid)]
    os.waitpid(int(pid), 0)


def test_timers_in_order_and_once() -> None:
    timers = Timers()
    called: list[int] = []
    assert timers.wait() is None
    timers.later(0.0, lambda: called.append(1))
    timers.later(0.0, lambda: called.append(2))
    timers.later(3600.0, lambda: called.append(3))
    assert timers.wait() == 0.0
    for call in timers.due():
        call()
    assert called == [1, 2]
    assert list(timers.due()) == []
    wait = timers.wait()
    assert wait is not None
    assert 3500 < wait <= 3600
