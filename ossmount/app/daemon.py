"""Going into the background, and telling the command that waits whether the mount serves.

The command's process stays in the foreground until its detached child says "serving" or how it failed,
over a pipe: so ``mount`` returns 0 only when the mount serves, and shows the daemon's error as its own.

Until it serves the daemon stays in the command's process group: that is how autofs knows who makes the mount
of ``x-systemd.automount`` (Linux, Documentation/filesystems/autofs.rst). Any other process that comes to the
mountpoint waits there until the mount is made; the daemon would wait for itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
from collections.abc import Callable, Collection, Iterable
from typing import NoReturn

from ossmount.errors import MountError, OssmountError, decode_error, encode_error

log = logging.getLogger(__name__)

_SERVING = b'{"serving": true}\n'

_FOR_THE_COMMAND = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal or a service manager sends to the whole process group to end the command."""


def in_background(run: Callable[[Callable[[], None]], int], keep: Collection[int] = ()) -> int:
    """Runs ``run(on_serving)`` in a detached process; returns 0 once it has called ``on_serving``.

    Of the descriptors that the command was started with the process has those in ``keep`` only: a lock, or a
    pipe whose reader waits for its end, must not be held until the mount ends.

    Whatever else ``run`` forks and leaves running calls :func:`leave_session`. Where this process has ended
    before ``on_serving`` is called, the detached one gets a SIGTERM then: nobody would know of its mount.

    Raises the OssmountError that ``run`` raised before that, or MountError when it died or cannot be started.
    """
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise _no_process(error) from error
    if pid == 0:
        os.close(reading)
        _detach_and_run(run, _Waiting(writing), keep)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        verdict = pipe.readline()  # not to the end: workers inherit the other side
    os.waitpid(pid, 0)
    if not verdict:
        raise MountError("the mount daemon died before it served", "run again with --foreground to see why")
    message = json.loads(verdict)
    if "serving" in message:
        return 0
    raise decode_error(message)


def _no_process(error: OSError) -> MountError:
    return MountError(
        f"the mount daemon cannot be started: {error.strerror}",
        "end other processes, or raise the limit (ulimit -u, pids.max)",
    )


def descriptors_named(texts: Iterable[str]) -> set[int]:
    """The numbers of descriptors that paths in ``texts`` name."""
    return {int(number) for text in texts for number in re.findall(r"/(?:dev|proc/self)/fd/(\d+)", text)}


def leave_session() -> None:
    """Leaves session and process group of the command: what is sent to them is not for this process any more.

    Never the leader of a group: a daemon and its children are forked.
    """
    os.setsid()


class _Waiting:
    """The command, which waits at the other end of the pipe for one line."""

    def __init__(self, writing: int) -> None:
        self._writing: int | None = writing

    def tell(self, line: bytes) -> bool:
        """Tells it, unless it was told something before. False where it has ended."""
        if self._writing is None:
            return True
        writing, self._writing = self._writing, None
        try:
            os.write(writing, line)
        except BrokenPipeError:
            return False
        finally:
            os.close(writing)
        return True

    def tell_serving(self) -> None:
        """Tells it that the mount serves, and lets go of its session."""
        leave_session()
        if not self.tell(_SERVING):
            log.warning("the command that made this mount was ended: unmounting")
            os.kill(os.getpid(), signal.SIGTERM)  # the supervisor's loop then drains and unmounts


def _detach_and_run(
    run: Callable[[Callable[[], None]], int], waiting: _Waiting, keep: Collection[int]
) -> NoReturn:
    """In the child: forks again, so that nobody has to reap it, and never returns."""
    try:
        if os.fork() != 0:
            os._exit(0)
    except OSError as error:
        waiting.tell(_line(_no_process(error)))
        os._exit(1)
    for signum in _FOR_THE_COMMAND:
        # Till the supervisor has its own dispositions: to die now could leave a dead mount behind.
        signal.signal(signum, signal.SIG_IGN)
    _leave_terminal()
    _close_inherited(keep)
    status = 1
    try:
        status = run(waiting.tell_serving)
    except OssmountError as error:
        waiting.tell(_line(error))
    except BaseException as error:
        described = MountError(f"the mount failed: {type(error).__name__}: {error}")
        waiting.tell(_line(described))
    finally:
        os._exit(status)


def _line(error: OssmountError) -> bytes:
    return json.dumps(encode_error(error)).encode() + b"\n"


def _leave_terminal() -> None:
    """Standard streams to /dev/null: the terminal may close, and a pipe's reader may wait for EOF.

    Before any worker is forked, for each would hold the streams open; errors go over our own pipe.
    """
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def _close_inherited(keep: Collection[int]) -> None:
    """Closes what came over exec(2), by which it is known: what Python opens is closed there (PEP 446)."""
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - names, not paths
        with contextlib.suppress(OSError):  # the descriptor by which they were listed
            if number > 2 and number not in keep and os.get_inheritable(number):
                os.close(number)
