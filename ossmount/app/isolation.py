"""Work that must not leave anything in this process: done in a forked child, its result brought back.

The supervisor forks workers later and may hold no thread, no LMDB environment and no store client by
then (native clients start threads that do not survive a fork). So building an index, and all else that
touches a store before mounting, happens here.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ossmount import errors

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""Between two looks for a child's outcome, and for interrupts."""

_INTERRUPTED = 130


def in_child(work: Callable[[], T]) -> T:
    """The result of ``work()`` run in a forked child, or the OssmountError that it raised.

    The result must pickle. Ctrl-C reaches both; the child cleans up first. Raises KeyboardInterrupt
    when the child was interrupted and OssmountError when it died.
    """
    reading, writing = os.pipe()
    _flush_output()
    # An interrupt between the fork and the block below would leave the child to nobody.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run_and_exit(work, writing, before)
    try:
        os.close(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        result: T = _outcome(reading, pid)
    except BaseException:
        _end(pid)
        raise
    return result


def _run_and_exit(work: Callable[[], Any], writing: int, mask: set[signal.Signals | int]) -> NoReturn:
    status = 0
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        outcome: tuple[str, Any] = ("result", work())
    except errors.OssmountError as error:
        outcome = ("error", errors.encode_error(error))
    except KeyboardInterrupt:
        outcome, status = ("interrupted", None), _INTERRUPTED
    except BaseException as error:
        outcome = ("crash", f"{type(error).__name__}: {error}")
    try:
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(outcome, pipe)
        _flush_output()
    finally:
        os._exit(status)


def _outcome(reading: int, pid: int) -> Any:
    # A signal that another thread has taken does not interrupt a read here: it is noticed between two looks.
    while not select.select([reading], [], [], LOOK_SECONDS)[0]:
        pass
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise errors.OssmountError("the preparing process died", "see the log above, and try again")
    what, value = pickle.loads(data)  # noqa: S301 - written by our own child
    if what == "result":
        return value
    if what == "interrupted":
        raise KeyboardInterrupt
    if what == "error":
        raise errors.decode_error(value)
    raise errors.OssmountError(f"preparing failed: {value}", "please report this with --log-level debug")


END_SECONDS = 3.0
"""How long a child may clean up before it is asked again, and then killed."""


def _end(pid: int) -> None:
    """Ends and reaps a child that the parent no longer waits for.

    It is asked twice: the first interrupt starts its cleaning up, which may wait for a request that
    hangs; the second breaks that wait.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return  # reaped already
    try:
        for signum in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, signum)
            if select.select([descriptor], [], [], END_SECONDS)[0]:
                break
        os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError):
        return
    finally:
        os.close(descriptor)


def _flush_output() -> None:
    """Empties buffered output, so that a fork does not print it twice."""
    sys.stdout.flush()
    sys.stderr.flush()
