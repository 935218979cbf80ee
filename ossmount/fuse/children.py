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

from ossmount import system_calls
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


LONELY_SECONDS = 0.5
"""How long a prefetcher may take to end once no worker is left to answer it."""


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

    def add(self, kind: Kind, count: int) -> None:
        """Forks ``count`` children of that kind."""
        for number in range(count):
            child = Child(kind, number)
            self.members.append(child)
            self.start(child)

    def start(self, child: Child) -> None:
        """Forks the process of ``child``. Signals wait until it has its own dispositions."""
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
        for child in self.alive():
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(child.pid or 0, os.WNOHANG)
                if pid:
                    child.pid = None
                    yield Death(child, os.waitstatus_to_exitcode(status))

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
        waits = []
        for child in self.members:
            if child.restart_at is None:
                continue
            wait = child.restart_at - time.monotonic()
            if wait <= 0:
                self._start_anew(child)
            else:
                waits.append(wait)
        return min(waits, default=None)

    def halt(self) -> None:
        """Tells all to finish what they have accepted; none is started anew until :meth:`renew`."""
        for child in self.members:
            child.restart_at = None
        self.send(signal.SIGTERM)

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
        self.restarts += 1
        self.start(child)

    def send(self, signum: int, kind: Kind | None = None) -> None:
        """Sends a signal to all children, or to all of one kind."""
        for child in self.alive(kind):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid or 0, signum)

    def end(self, grace: float) -> None:
        """Ends all: SIGTERM, and after ``grace`` seconds SIGKILL. Reaps them.

        A prefetcher may wait for an answer of the mount (:mod:`introducing`): then LONELY_SECONDS count.
        """
        for child in self.members:
            child.restart_at = None
        answered = bool(self.alive(Kind.WORKER))  # else the mount has ended, and nobody waits for it
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.alive() and time.monotonic() < deadline:
            if not list(self.reap()):
                time.sleep(0.005)
            elif answered and not self.alive(Kind.WORKER):
                deadline = min(deadline, time.monotonic() + LONELY_SECONDS)
        self.send(signal.SIGKILL)
        for child in self.alive():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid or 0, 0)
            child.pid = None
