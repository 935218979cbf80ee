"""What runs in a child of the supervisor: a worker that answers the kernel, or a prefetcher.

What may live here: the life of one child, from the fork to its exit status. Who may touch it: whoever
changes how children start or stop.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import partial

import pyfuse3
import trio

from ossmount.config import MountSettings
from ossmount.errors import MountError, OssmountError, encode_error
from ossmount.fuse.accept import Acceptor, Token
from ossmount.fuse.contract import Prefetch, Serve
from ossmount.fuse.introducing import Introductions
from ossmount.fuse.operations import Operations
from ossmount.fuse.pages import Pusher
from ossmount.fuse.request_headers import RequestHeaders
from ossmount.fuse.scheduling import Crowd, let_run
from ossmount.fuse.throttled_log import AnsweredTwice
from ossmount.fuse.unasked import UnaskedOpens

log = logging.getLogger(__name__)

IDLE_LOOPS = 32
"""Session loops a worker keeps while they wait. Each has a buffer of 1 MiB that libfuse allocates; with
pyfuse3's default of one, concurrent requests make and free them all the time."""

SPARE_LOOPS = 1024
"""Session loops beyond ``max_background``: foreground requests do not count there."""


class Kind(StrEnum):
    """What a child does."""

    WORKER = "worker"
    PREFETCHER = "prefetcher"


class Status(IntEnum):
    """How a child ended, as its exit status; a negative one is the signal that killed it."""

    SESSION_ENDED = 0
    FAILED = 1
    STOPPED = 75
    """It was told to."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every child of one mount is made from; the fork hands it over."""

    settings: MountSettings
    serve: Serve
    prefetch: Prefetch | None
    operations: Operations
    token: Token
    ready: int
    """Write end of the pipe in which children say that they are ready, or what is wrong."""
    introductions: Introductions | None = None


def report_ready(plan: Plan, number: int) -> None:
    """Tells the supervisor that worker ``number`` is about to answer."""
    _report(plan, {"ready": number})


def report_ended(plan: Plan, number: int) -> None:
    """Tells the supervisor that the mount has ended, before slow clean-up: only a reader sees it (FACTS)."""
    _report(plan, {"ended": number})


def _report(plan: Plan, message: dict[str, object]) -> None:
    # A surrogate becomes its \\u escape, which JSON understands.
    text = json.dumps(message, ensure_ascii=False).encode(errors="backslashreplace")
    os.write(plan.ready, text + b"\n")


def _report_failure(plan: Plan, kind: Kind, number: int, error: Exception) -> None:
    """One line of less than PIPE_BUF bytes: lines of several children must not mix."""
    if not isinstance(error, OssmountError):
        error = MountError(f"{kind} {number}: {error!r}", "see the log")
    fields = encode_error(error)
    fields |= {"message": error.message[:500], "remedy": error.remedy[:250]}
    _report(plan, {"kind": kind, "failed": fields})


def run_child(kind: Kind, number: int, plan: Plan) -> Status:
    """The whole life of a child. Never raises an Exception: what goes wrong is reported and logged."""
    reset_signals()
    logging.getLogger("pyfuse3").addFilter(AnsweredTwice())
    body = _work if kind is Kind.WORKER else _fetch_ahead
    try:
        return trio.run(body, number, plan)
    except Exception as error:
        cause = _sole_cause(error)
        if not isinstance(cause, OssmountError):
            log.exception("%s %d ended with an error that nobody expected", kind, number)
        _report_failure(plan, kind, number, cause)
    return Status.FAILED


def _sole_cause(error: Exception) -> Exception:
    """What is inside the groups in which nurseries wrap a single error."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def reset_signals() -> None:
    """A child leaves the terminal's signals to the supervisor; SIGTERM ends it until it can stop in order.

    The fork happened with all signals blocked, so that none met the supervisor's dispositions here.
    """
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    for signum in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


async def _work(number: int, plan: Plan) -> Status:
    """Answers requests until the mount ends or SIGTERM comes; accepted requests are answered first."""
    stopped = trio.Event()
    acceptor = Acceptor(plan.token, number)
    acceptor.install()
    pusher = Pusher()

    async def stop() -> None:
        # While requests are accepted: a push may wait for a READ that this worker has still to accept.
        await trio.to_thread.run_sync(pusher.close)
        stopped.set()
        acceptor.stop()

    async with trio.open_nursery() as nursery:
        async with plan.serve(number) as fs:
            await nursery.start(_on_sigterm, partial(nursery.start_soon, stop))
            headers = RequestHeaders()
            plan.operations.bind(
                fs,
                acceptor.pass_on_if_more,
                pusher.push_nowait,
                acceptor.suspend,
                acceptor.resume,
                plan.introductions,
                Crowd.on_this_machine().opened,
                UnaskedOpens(fs, headers, allowed=plan.settings.ask_opens == "auto"),
            )
            report_ready(plan, number)
            await pyfuse3.main(IDLE_LOOPS, plan.settings.max_background + SPARE_LOOPS)
            acceptor.pass_on()
            status = Status.STOPPED if stopped.is_set() else Status.SESSION_ENDED
            if status is Status.SESSION_ENDED:
                report_ended(plan, number)
                pusher.close()
            headers.close()
        # Not before: the supervisor's SIGTERM may come while the rooms close, and must not cut that short.
        _stop_listening(nursery)
    return status


async def _fetch_ahead(number: int, plan: Plan) -> Status:
    """Runs the app's prefetcher until SIGTERM comes; one that returns has nothing to do and waits."""
    if plan.prefetch is None:
        raise MountError("a prefetcher was asked for without what it should run")
    let_run()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as fetching:
            await nursery.start(_on_sigterm, fetching.cancel)
            await plan.prefetch(number)
            await trio.sleep_forever()
        _stop_listening(nursery)
    return Status.STOPPED


async def _on_sigterm(
    stop: Callable[[], None], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            stop()


def _stop_listening(nursery: trio.Nursery) -> None:
    """Ends the task that waits for SIGTERM; one not seen yet must not kill the process at last."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # trio raises it again with the old handler
    nursery.cancel_scope.cancel()
