"""Telling the service manager that started this process what state the mount is in: sd_notify(3).

What may live here: the protocol, which is a datagram of ``NAME=value`` lines to ``$NOTIFY_SOCKET``, and the
timer of the watchdog. Nothing is sent where no service manager asks for it, and a failure to tell never
ends a mount. Who may touch it: whoever adds a state that systemd should know.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ossmount.fuse.contract import Supervising

_log = logging.getLogger(__name__)

SIGNS_PER_PERIOD = 2
"""sd_watchdog_enabled(3) recommends a sign of life every half of the period."""

_TFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
"""``TFD_CLOEXEC`` and ``TFD_NONBLOCK`` are these by definition (sys/timerfd.h)."""

_CLOCK_MONOTONIC = 1

_EXPIRATIONS_BYTES = 8
"""read(2) of a timer descriptor gives the count of expirations as one 64-bit number (timerfd_create(2))."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a service manager wants to be told. ``address`` None: nothing. ``period`` in seconds.

    ``period`` is the time without a sign of life after which the service manager gives this process up;
    None where it does not watch.
    """

    address: str | None = None
    period: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Service:
        """From ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``, as sd_notify(3) defines them."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        watched = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        microseconds = environment.get("WATCHDOG_USEC", "")
        if not watched or not microseconds.isdecimal() or not int(microseconds):
            return cls(address)
        return cls(address, int(microseconds) / 1e6)

    def ready(self, status: str) -> None:
        """The mount serves; ``status`` is what ``systemctl status`` shows."""
        self._tell(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The mount ends."""
        self._tell("STOPPING=1\nSTATUS=unmounted")

    def _tell(self, message: str) -> None:
        if self.address is None:
            return
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
                told.setblocking(False)  # the supervisor never waits; a full queue loses a sign of two
                told.sendto(message.encode(errors="replace"), name)
        except OSError as error:
            _log.warning("the service manager at %s cannot be told: %s", self.address, error)

    @contextlib.contextmanager
    def watched(self) -> Iterator[Mapping[int, Callable[[Supervising], None]]]:
        """For ``Callbacks.on_readable``: a timer by which the supervisor's loop itself gives signs of life.

        A thread or a signal would go on giving them while the loop hangs.
        """
        if self.period is None:
            yield {}
            return
        timer = _timer(self.period / SIGNS_PER_PERIOD)

        def on_timer(_: Supervising) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(timer, _EXPIRATIONS_BYTES)
            self.alive()

        try:
            yield {timer: on_timer}
        finally:
            os.close(timer)


def _timer(seconds: float) -> int:
    """A descriptor that becomes readable every ``seconds``; ``os`` has it from Python 3.13 on only."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    whole = int(seconds)
    parts = (whole, max(1, int((seconds - whole) * 1e9)))  # all zero would disarm it
    times = struct.pack("@llll", *parts, *parts)  # struct itimerspec: interval, first expiration
    if libc.timerfd_settime(descriptor, 0, times, None) != 0:
        code = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(code, "timerfd_settime")
    return descriptor
