"""When the processes of a mount let programs run on: throughput against the wait for an answer.

A process that wakes under Linux's default policy may take the processor from whoever runs. For a mount
that means: a loader that decodes is interrupted for each request of another loader, and both find cold
caches. Under ``SCHED_BATCH`` (sched(7)) the process that wakes waits until a processor is given up. Where
more programs read than there are processors, that costs them nothing, for the next one runs meanwhile; where
one reads and others compute, each of its requests would wait for a slice of theirs.

What may live here: the policy of this process and what decides it. Who may touch it: whoever has measured
both cases (docs/performance-notes.md, *Who runs*).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

LEAST_WINDOW = 64
"""Opens after which a worker judges anew who reads. Two workers share them, so many are needed to have
seen each reader once."""

WINDOW_OF_PROCESSOR = 4
"""The same for each processor, on larger machines."""


def window(processors: int) -> int:
    """Opens after which a worker on that many processors judges."""
    return max(LEAST_WINDOW, WINDOW_OF_PROCESSOR * processors)


def let_run(batch: bool = True) -> None:
    """This thread, and threads it starts, do not interrupt others when they wake; False: they do again.

    Under a third policy, which somebody chose (``chrt``), and where the call is forbidden, nothing changes.
    """
    wanted = os.SCHED_BATCH if batch else os.SCHED_OTHER
    with contextlib.suppress(OSError):
        if os.sched_getscheduler(0) in {os.SCHED_OTHER, os.SCHED_BATCH}:
            os.sched_setscheduler(0, wanted, os.sched_param(0))


def _stay(crowded: bool) -> None:
    """The policy was somebody's choice."""


class Crowd:
    """Whether more threads of programs open files than there are processors, as one worker sees it.

    Pure but for ``follow(crowded)``, which is called when the answer changes. There is no clock in it: a
    timer would wake idle workers, and a mount that nobody uses has nobody to be polite to. Threads of another
    PID namespace all have number 0 and count as one.
    """

    def __init__(self, processors: int, follow: Callable[[bool], None] = let_run) -> None:
        self._processors = processors
        self._follow = follow
        self._left = window(processors)
        self._seen: set[int] = set()
        self._crowded = False

    def __repr__(self) -> str:
        return f"<Crowd seen={len(self._seen)} processors={self._processors} crowded={self._crowded}>"

    @classmethod
    def on_this_machine(cls) -> Crowd:
        """For the processors that this process may use; a policy that it was started with stays."""
        follow = let_run if os.sched_getscheduler(0) == os.SCHED_OTHER else _stay
        return cls(len(os.sched_getaffinity(0)), follow)

    def opened(self, thread: int) -> None:
        """A thread opened a file or a directory."""
        self._seen.add(thread)
        self._left -= 1
        if not self._left:
            self._judge()

    def _judge(self) -> None:
        crowded = len(self._seen) > self._processors
        self._seen.clear()
        self._left = window(self._processors)
        if crowded is not self._crowded:
            self._crowded = crowded
            self._follow(crowded)
