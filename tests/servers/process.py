"""Starting, awaiting and ending a server process on a free loopback port.

What may live here: what every server fixture needs. Touch it when a server of another kind is added.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

START_TIMEOUT = 60.0
"""Seconds for a server to answer; the machines that run the tests may be busy with others."""

POLL_INTERVAL = 0.05
"""Seconds between two attempts to connect."""


class ServerDied(RuntimeError):
    """The server ended, or did not answer in time; the message carries its log."""


@functools.cache
def _held() -> socket.socket:
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


def closed_port() -> int:
    """A TCP port of the loopback where nobody will listen: it is bound as long as this process runs.

    One that was given back may be anybody's a moment later.
    """
    return int(_held().getsockname()[1])


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, answers: Callable[[], bool], env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs ``command`` until the block ends; the block starts when ``answers()`` is true."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env={**os.environ, **(env or {})}, start_new_session=True
        )
    try:
        await_answer(process, log, answers)
        yield process
    finally:
        end(process)


def await_answer(process: subprocess.Popen[bytes], log: Path, answers: Callable[[], bool]) -> None:
    """Returns when ``answers()``; watches the process meanwhile. Raises ServerDied."""
    deadline = time.monotonic() + START_TIMEOUT
    with contextlib.closing(ProcessWatch(process.pid)) as watch:
        while not answers():
            if watch.ended(POLL_INTERVAL) or time.monotonic() > deadline:
                raise ServerDied(
                    f"{process.args!r} does not serve:\n{log.read_text(errors='replace')[-4000:]}"
                )


class ProcessWatch:
    """Waits on a process descriptor, which becomes readable when the process ends."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def ended(self, timeout: float) -> bool:
        """True when the process ended within ``timeout`` seconds."""
        readable, _, _ = select.select([self._fd], [], [], timeout)
        return bool(readable)

    def close(self) -> None:
        """Frees the descriptor."""
        os.close(self._fd)


def accepts(port: int) -> bool:
    """True when something accepts connections on the loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that this test run started: asked first, then made to."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)
