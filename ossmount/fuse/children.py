"""The supervisor's children: forking, reaping, and how often one that dies at once is tried again.

What may live here: processes and the decision about their restarts. Who may touch it: whoever changes
when a child is forked anew.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ossmount import system_calls
from ossmount.errors import MountError
from ossmount.fuse.worker import Kind, Plan, Status, run_child

log = logging.getLogger(__name__)

QUICK_SECONDS = 0.25
"""A child that dies before it is ready, or within this time after, died "at once": it cannot start, or
one request kills it. Whoever kills workers by hand or for want of memory does not do it that fast."""

TOLERATED_QUICK_DEATHS = 8
"""Deaths at once in a row before giving up: with the pauses below some six seconds of trying."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds before a restart after the second, third, … death at once; the first restart is immediate,
because requests wait for it."""


def pause_before_restart(quick_deaths: int) -> float:
    """Seconds to wait after that many deaths at once in a row."""
    if quick_deaths <= 1:
        return 0.0
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (quick_deaths - 2))


QUIET_SECONDS = 2.5
"""How long a prefetcher may take to end, with workers still there to answer what it waits for. What it has
fetched goes to the disk cache, for which the keeper takes two seconds at most."""

KILLED_SECONDS = 1.0
"""How long after SIGKILL a child is waited for. Some of them wait in the kernel: a push for pages that a READ
has locked, a listing for its answer. No signal ends that."""


@dataclass
class Child:
    """A place for a process: the process may die and be replaced, kind and number stay."""

    kind: Kind
    number: int
    pid: int | None = None
    ready_at: float | None = None
    """When it said that it was ready (a prefetcher says nothing: when it was forked)."""
    quick_deaths: int = 0
    restart_at: float | None = None
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Death:
    """A child that was reaped. ``status`` is the exit status, negative for a signal."""

    child: Child
    status: int

    def __str__(self) -> str:
        how = (
            f"was killed by signal {-self.status}" if self.status < 0 else f"ended with status {self.status}"
        )
        return f"{self.child.kind} {self.child.number} {how}"


@dataclass
class Children:
    """All children of one mount."""

    plan: Plan
    prepare_child: Callable[[], None]
    """Runs first in a new child: closes what belongs to the supervisor."""
    members: list[Child] = field(default_factory=list)
    restarts: int = 0
    """How often a child was started anew, in the place of one that died or with another plan. What it knew
    died with it: whoever asked it for something asks again."""
    left: list[int] = field(default_factory=list)
    """Processes that SIGKILL has not ended: nobody waits for them, but they are reaped when they end."""
    _headless: set[int] = field(default_factory=set)

    def add(self, kind: Kind, count: int) -> None:
        """Forks ``count`` children of that kind. Raises MountError."""
        for number in range(count):
            child = Child(kind, number)
            self.members.append(child)
            try:
                self.start(child)
            except OSError as error:
                raise MountError(
                    f"no {kind} can be started: {error.strerror}",
                    "end other processes, or raise the limit (ulimit -u, pids.max)",
                ) from error

    def start(self, child: Child) -> None:
        """Forks the process of ``child``. Signals wait until it has its own dispositions. Raises OSError."""
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._become(child, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        child.pid, child.restart_at = pid, None
        child.ready_at = time.monotonic() if child.kind is Kind.PREFETCHER else None

    def _become(self, child: Child, parent: int) -> None:
        """In the new process; never returns, so that nothing of the supervisor's stack runs twice."""
        status: int = Status.FAILED
        try:
            system_calls.die_with_parent(parent)
            self.prepare_child()
            gc.freeze()  # the collector would copy every page that is still shared with the supervisor
            status = run_child(child.kind, child.number, self.plan)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def note_ready(self, number: int) -> None:
        """Worker ``number`` has said that it is ready."""
        for child in self.members:
            if child.kind is Kind.WORKER and child.number == number:
                child.ready_at = time.monotonic()

    def alive(self, kind: Kind | None = None) -> list[Child]:
        """Children with a process, all or those of one kind."""
        return [child for child in self.members if child.pid is not None and kind in (None, child.kind)]

    def reap(self) -> Iterator[Death]:
        """Every child that has ended since the last call."""
        self.left = [pid for pid in self.left if _status(pid) is None]
        for child in self.alive():
            status = _status(child.pid or 0)
            if status is not None:
                child.pid = None
                yield Death(child, status)

    def plan_restart(self, child: Child) -> bool:
        """Decides when ``child`` starts anew; False when it has died at once too often."""
        now = time.monotonic()
        at_once = child.ready_at is None or now - child.ready_at < QUICK_SECONDS
        child.quick_deaths = child.quick_deaths + 1 if at_once else 0
        if child.quick_deaths > TOLERATED_QUICK_DEATHS:
            child.given_up = True
            return False
        child.restart_at = now + pause_before_restart(child.quick_deaths)
        return True

    def restart_due(self) -> float | None:
        """Forks the children whose time has come; seconds until the next one's, None without one."""
        for child in self.members:
            if child.restart_at is not None and child.restart_at <= time.monotonic():
                self._start_anew(child)
        moments = [child.restart_at for child in self.members if child.restart_at is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def halt(self, kind: Kind) -> None:
        """Tells those of that kind to finish what they accepted; none is started anew until :meth:`renew`."""
        for child in self.members:
            if child.kind is kind:
                child.restart_at = None
        self.send(signal.SIGTERM, kind)

    def leave(self, kind: Kind) -> list[Death]:
        """Waits no longer for those of that kind that SIGKILL has not ended; they count as dead."""
        return [self._leave(child) for child in self.alive(kind)]

    def _leave(self, child: Child) -> Death:
        log.warning(
            "%s %d waits in the kernel and does not end: going on without it", child.kind, child.number
        )
        self.left.append(child.pid or 0)
        child.pid = None
        return Death(child, -signal.SIGKILL)

    def leave_headless(self) -> list[Death]:
        """Waits no longer for those whose main thread had ended at the last look, too; they count as dead.

        The system tells of a death when the last thread has ended. One that waits in the kernel may wait for
        what only a successor can answer.
        """
        before, found = self._headless, {child.pid or 0: child for child in self.alive()}
        self._headless = set(filter(_is_headless, found))
        return [self._leave(found[pid]) for pid in sorted(before & self._headless)]

    def renew(self, plan: Plan) -> None:
        """Starts all with another plan, also those that were given up. No child may be alive."""
        self.plan = plan
        for child in self.members:
            child.quick_deaths, child.given_up = 0, False
            self._start_anew(child)

    def return_to(self, plan: Plan) -> None:
        """Ends those that live, whose successors get ``plan``; starts all others with it at once."""
        self.plan = plan
        self.send(signal.SIGTERM)
        for child in self.members:
            child.quick_deaths, child.given_up = 0, False
            if child.pid is None:
                self._start_anew(child)

    def _start_anew(self, child: Child) -> None:
        """Now, or a little later where the system has no process or memory to spare: the mount goes on."""
        try:
            self.start(child)
        except OSError as error:
            log.warning("no %s can be started: %s; trying again", child.kind, error.strerror)
            child.restart_at = time.monotonic() + LONGEST_PAUSE
        else:
            self.restarts += 1

    def send(self, signum: int, kind: Kind | None = None) -> None:
        """Sends a signal to all children, or to all of one kind."""
        for child in self.alive(kind):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid or 0, signum)

    def end(self, grace: float, release: Callable[[], None] = lambda: None) -> None:
        """Ends all: SIGTERM, and after ``grace`` seconds SIGKILL. Reaps them.

        Prefetchers first, while workers answer what they wait for (:mod:`swapping`); they have QUIET_SECONDS
        of ``grace`` at most. ``release()`` is called, more than once, where a process waits in the kernel for
        an answer that nobody is left to give.
        """
        deadline = time.monotonic() + grace
        for kind, most in ((Kind.PREFETCHER, QUIET_SECONDS), (Kind.WORKER, grace)):
            self.halt(kind)
            self._wait(partial(self.alive, kind), min(most, deadline - time.monotonic()))
            self.send(signal.SIGKILL, kind)
            self._wait(partial(self.alive, kind), KILLED_SECONDS)
            self.leave(kind)
        self._wait(lambda: self.left, KILLED_SECONDS, release)

    def _wait(
        self, anybody: Callable[[], object], seconds: float, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Reaps until there is nobody any more, for at most so long."""
        deadline = time.monotonic() + seconds
        while anybody() and time.monotonic() < deadline:
            meanwhile()
            if not list(self.reap()):
                time.sleep(0.005)


def _is_headless(pid: int) -> bool:
    """Whether the main thread has ended; also true of a process that has ended and was not reaped."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "Z"
    return False


def _status(pid: int) -> int | None:
    """How a child of this process ended, negative for a signal; None while it lives."""
    with contextlib.suppress(ChildProcessError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
    return None
