"""Work that the supervisor has done in a process of its own, because it may take long or open things.

What may live here: forking, hearing the result, ending. Who may touch it: whoever changes what a process
beside workers and prefetchers is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from ossmount import system_calls
from ossmount.fuse.children import KILLED_SECONDS
from ossmount.fuse.worker import reset_signals

log = logging.getLogger(__name__)

Work = Callable[[], bytes]
"""Runs in a process of its own."""

Done = Callable[[bytes], None]
"""Called in the supervisor with what the work gave; b"" where it died, or could not be begun."""


@dataclass
class _Errand:
    pid: int
    done: Done
    heard: bytes = b""


class Errands:
    """Running errands by the pipe over which their results come."""

    def __init__(
        self,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        prepare_child: Callable[[], None],
    ) -> None:
        self._watch, self._unwatch, self._prepare_child = watch, unwatch, prepare_child
        self._running: dict[int, _Errand] = {}

    def __repr__(self) -> str:
        return f"<Errands {[errand.pid for errand in self._running.values()]}>"

    def run(self, work: Work, done: Done) -> None:
        """Forks a process that does ``work``; where that cannot be, ``done`` is told so at once."""
        try:
            pid, reading, writing = self._fork(work)
        except OSError as error:  # too many processes, no memory, no descriptors: it may go better later
            log.warning("an errand could not be begun: %s", error)
            done(b"")
            return
        os.close(writing)
        self._running[reading] = _Errand(pid, done)
        self._watch(reading, lambda: self._hear(reading))

    def _fork(self, work: Work) -> tuple[int, int, int]:
        """(process, reading end, writing end) of the pipe over which its result comes. Raises OSError."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._become(work, writing, parent)
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        return pid, reading, writing

    def _become(self, work: Work, writing: int, parent: int) -> NoReturn:
        """In the new process; never returns, so that nothing of the supervisor's stack runs twice."""
        status = 1
        try:
            system_calls.die_with_parent(parent)
            self._prepare_child()
            reset_signals()
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(work())
            status = 0
        except KeyboardInterrupt:
            log.info("an errand was called off")
        except BaseException:
            log.exception("an errand failed")
        finally:
            os._exit(status)

    def _hear(self, reading: int) -> None:
        errand = self._running[reading]
        part = os.read(reading, 1 << 16)
        errand.heard += part
        if part:
            return
        self._forget(reading)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(errand.pid, 0)  # it has closed its end as the last thing but one
        errand.done(errand.heard)

    def _forget(self, reading: int) -> None:
        self._unwatch(reading)
        os.close(reading)
        del self._running[reading]

    def end(self, grace: float) -> list[int]:
        """Calls every errand off; kills what does not end within ``grace`` seconds. Nothing is told.

        Returns the processes that no signal ends: they wait in the kernel for what nobody answers any more.
        """
        pids = [errand.pid for errand in self._running.values()]
        for reading in list(self._running):
            self._forget(reading)
        _signal(pids, signal.SIGTERM)
        pids = _not_ended(pids, grace)
        _signal(pids, signal.SIGKILL)
        return _not_ended(pids, KILLED_SECONDS)


def _not_ended(pids: list[int], seconds: float) -> list[int]:
    """Reaps ``pids`` for at most so long."""
    deadline = time.monotonic() + seconds
    while (pids := [pid for pid in pids if not _reaped(pid)]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return pids


def _signal(pids: list[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True
