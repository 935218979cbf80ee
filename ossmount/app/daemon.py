"""Going into the background, and telling the command that waits whether the mount serves.

The command's process stays in the foreground until its detached child says "serving" or how it failed,
over a pipe: so ``mount`` returns 0 only when the mount serves, and shows the daemon's error as its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import NoReturn

from ossmount.errors import MountError, OssmountError, decode_error, encode_error

_SERVING = b'{"serving": true}\n'


def in_background(run: Callable[[Callable[[], None]], int]) -> int:
    """Runs ``run(on_serving)`` in a detached process; returns 0 once it has called ``on_serving``.

    Raises the OssmountError that ``run`` raised before that, or MountError when it died.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _detach_and_run(run, writing)
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


def _detach_and_run(run: Callable[[Callable[[], None]], int], writing: int) -> NoReturn:
    """In the child: forks again out of the session, keeps only the pipe, and never returns."""
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    _leave_terminal()
    status = 1
    told = False

    def tell(message: bytes) -> None:
        nonlocal told
        if not told:
            told = True
            os.write(writing, message)
            os.close(writing)

    try:
        status = run(lambda: tell(_SERVING))
    except OssmountError as error:
        tell(_line(error))
    except BaseException as error:
        described = MountError(f"the mount failed: {type(error).__name__}: {error}")
        tell(_line(described))
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
