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
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ossmount import errors
from ossmount.system_calls import die_with_parent

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""Between two looks for a child's outcome, and for interrupts."""

_INTERRUPTED = 130


def in_child(work: Callable[[], T]) -> T:
    """The result of ``work()`` run in a forked child, or the OssmountError that it raised.

    The result must pickle. Ctrl-C reaches both; the child cleans up first, also where this process is
    killed. Raises KeyboardInterrupt when the child was interrupted and OssmountError when it died, or could
    not be started.
    """
    reading, writing = os.pipe()
    _flush_output()
    interrupts = _HeldInterrupts()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        interrupts.release()
        raise errors.OssmountError(
            f"no process can be started: {error.strerror}",
            "end others, or raise the limit (ulimit -u, pids.max)",
        ) from error
    if pid == 0:
        os.close(reading)
        _run_and_exit(work, writing, parent, interrupts)
    try:
        os.close(writing)
        interrupts.release()
        result: T = _outcome(reading, pid)
    except BaseException:
        _end(pid)
        raise
    return result


class _HeldInterrupts:
    """From now on until :meth:`release` Ctrl-C is only noted, in the main thread at least.

    Between the fork and what looks after the child it would leave the child to nobody. To block the signal
    is not enough: another thread may take it, and in the hooks that a fork runs (``logging`` has one) the
    exception is lost.
    """

    def __init__(self) -> None:
        self._came = False
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread():
            self._handler = None  # only the main thread may set one
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._note)

    def _note(self, *_: object) -> None:
        self._came = True

    def release(self) -> None:
        """What came meanwhile comes now, so this may raise KeyboardInterrupt. Once in each process."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if not self._came:
            return
        if callable(self._handler):
            self._handler(signal.SIGINT, None)  # raised as a signal it would wait where this thread blocks it
        else:
            signal.raise_signal(signal.SIGINT)


def _run_and_exit(
    work: Callable[[], Any], writing: int, parent: int, interrupts: _HeldInterrupts
) -> NoReturn:
    status = 0
    try:
        interrupts.release()
        die_with_parent(parent, signal.SIGINT)
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
