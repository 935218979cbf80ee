"""Processes that outlive the plugin: known by id and start time, waited for whether or not they are children.

What may live here: identity, signals, waiting and reaping. Who may touch it: whoever changes how a mount's
process is ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.01
"""Between two looks where no pidfd can be had."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process: its id, and its start in clock ticks since boot, for ids are used again."""

    pid: int
    started: int


def identity_of(pid: int) -> Identity | None:
    """The identity of a process that runs (a zombie does not)."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else Identity(pid, int(fields[19]))


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` from the state on (proc(5): field 3)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def is_alive(process: Identity | None) -> bool:
    """Whether exactly that process still runs."""
    return process is not None and identity_of(process.pid) == process


def reap(pid: int) -> None:
    """Takes note of the end of a child, if it is one and has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def wait_for_end(process: Identity, seconds: float) -> bool:
    """Waits until the process has ended; False when it has not after ``seconds``."""
    deadline = time.monotonic() + seconds
    with _wake_up(process.pid) as descriptors:
        while is_alive(process):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select(descriptors, [], [], min(left, 1.0 if descriptors else POLL_SECONDS))
    reap(process.pid)
    return True


@contextlib.contextmanager
def _wake_up(pid: int) -> Iterator[list[int]]:
    """Descriptors that become readable when the process ends; none where a seccomp profile forbids pidfds."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        yield []
        return
    try:
        yield [descriptor]
    finally:
        os.close(descriptor)


def kill_group(process: Identity) -> None:
    """Kills the process, which leads its group, and all of the group."""
    if not is_alive(process):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    wait_for_end(process, 5.0)


class OrphanReaper:
    """Reaps what nobody waits for: in a container the plugin may be the process 1 that inherits orphans.

    A child is reaped when it was found dead twice in a row, so that whoever waits for it himself comes first.
    """

    def __init__(self) -> None:
        self._dead: set[int] = set()

    def look(self) -> None:
        """To be called every second or so."""
        dead = {pid for pid in _children() if (fields := _stat(pid)) is not None and fields[0] == "Z"}
        for pid in dead & self._dead:
            reap(pid)
        self._dead = dead


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


@contextlib.contextmanager
def ended_by_signals(stop: threading.Event) -> Iterator[int]:
    """SIGTERM and SIGINT set ``stop`` meanwhile; gives a descriptor that can be read from then on.

    For the main thread of a service. It must not wait for ``stop`` itself, but for the descriptor: an event
    whose lock it has when the signal comes could not be set.
    """
    ending = os.eventfd(0)

    def end(signum: int, frame: object) -> None:
        stop.set()
        os.eventfd_write(ending, 1)

    before = {signum: signal.signal(signum, end) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ending
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
        os.close(ending)
