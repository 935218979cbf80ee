"""The client of a mount's control socket: what the command line and the PyTorch sampler use.

Example::

    with ControlClient("/mnt/train") as mount:
        mount.order(["cat/1.jpg", "dog/7.jpg"])   # what will be read, in this order

Needs no FUSE and no store. docs/control-socket.md describes the protocol itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

from ossmount.app.control_protocol import (
    LONGEST_LINE,
    MOST_INODES,
    PROTOCOL,
    encode,
    socket_address,
    unix_stream,
)
from ossmount.app.locating import File, inodes_of
from ossmount.app.runtime import MountRecord, read_record, runtime_directory
from ossmount.errors import MountError, SourceError
from ossmount.fuse.mountpoint import resolve

TIMEOUT = 10.0
"""Seconds a mount may take to answer; it takes milliseconds unless its machine is in trouble."""

FULL_PAUSE = 0.01
"""Seconds before the rest of an order is sent, when the prefetchers have not read its beginning yet."""


class ControlClient:
    """Speaks to the mount at ``mountpoint``. Connects at the first request, and anew after a fork.

    Not for several threads at once. Every method raises MountError where no mount answers or the mount
    refuses; the mount itself is never touched.
    """

    def __init__(self, mountpoint: str | os.PathLike[str], timeout: float = TIMEOUT) -> None:
        self.mountpoint = str(resolve(Path(mountpoint)))
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._rest = b""
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"ControlClient({self.mountpoint!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. What this client still wished to warm is withdrawn."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    # -- requests ---------------------------------------------------------------------------------

    def version(self) -> dict[str, Any]:
        """``version`` of ossmount, ``protocol``, names of ``requests``."""
        return self.request("version")

    def stats(self) -> dict[str, Any]:
        """``counters`` of all processes together, and those of the ``supervisor``."""
        return self.request("stats")

    def order(self, files: Sequence[File], *, begin: bool = True) -> int:
        """Says that ``files`` will be read in this order; returns how many of them the mount knows.

        Paths are relative to the mountpoint or absolute below it; inode numbers (``st_ino``) need no
        look-up. ``begin`` False continues the order given before. Replaces all guesses until withdrawn.
        Raises SourceError for a path that is not there; what was passed on of a new order is withdrawn then,
        and one that was to be continued stays as it was.
        """
        parts = inodes_of(self.record(), files)
        if not begin:
            parts = iter([list(chain.from_iterable(parts))])
        passed = 0
        try:
            for inos in parts:
                self._order(inos, begin=begin and passed == 0)
                passed += len(inos)
        except SourceError:
            if passed:
                self.withdraw()
            raise
        return passed

    def _order(self, inos: Sequence[int], *, begin: bool) -> None:
        self._pass_on(inos, lambda part, first: self.request("order", inos=part, begin=begin and first))

    def warm(self, batch: int, inos: Sequence[int]) -> None:
        """Wishes for files in the disk cache; ``stats()["counters"]["warm"]["batch-N"]`` tells how far it is.

        Withdrawn when this client closes. See :func:`ossmount.app.warming.warm` for the whole of it.
        """
        self._pass_on(inos, lambda part, _: self.request("warm", batch=batch, inos=part))

    def withdraw(self, batch: int | None = None) -> None:
        """Takes a batch back, or the known order."""
        fields = {} if batch is None else {"batch": batch}
        self._until(lambda: bool(self.request("withdraw", **fields)["passed"]))

    def log_level(self, level: str) -> str:
        """Sets the log level of all processes; returns the one before."""
        return str(self.request("log-level", level=level)["before"])

    def refresh(self) -> None:
        """Has the mount bring its index up to date."""
        self.request("refresh")

    def drain(self) -> None:
        """Has the mount finish what is open and end, as SIGTERM does."""
        self.request("drain")

    def record(self) -> MountRecord:
        """What the mount says of itself (``mount.json``)."""
        record = read_record(self.mountpoint)
        if record is None:
            raise self._nobody()
        return record

    # -- transport --------------------------------------------------------------------------------

    def _pass_on(self, inos: Sequence[int], send: Callable[[list[int], bool], dict[str, Any]]) -> None:
        """Sends in parts, each as often as it takes: pipes to the prefetchers hold 60,000 numbers."""
        done = 0

        def step() -> bool:
            nonlocal done
            passed = int(send(list(inos[done : done + MOST_INODES]), done == 0)["passed"])
            done += passed
            return passed > 0

        while done < len(inos):
            self._until(step)

    def _until(self, step: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._timeout
        while not step():
            if time.monotonic() > deadline:
                raise MountError(f"{self.mountpoint} takes nothing", "see the mount's log")
            time.sleep(FULL_PAUSE)

    def request(self, name: str, **fields: Any) -> dict[str, Any]:
        """One request and its answer. Raises MountError."""
        try:
            answer = self._exchange(encode({"v": PROTOCOL, "request": name, **fields}))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self.close()
            raise self._nobody() from error
        except (OSError, ValueError) as error:
            self.close()
            raise MountError(
                f"the mount at {self.mountpoint} did not answer: {error}", "see its log"
            ) from error
        if not answer.get("ok"):
            raise _refusal(self.mountpoint, answer)
        return answer

    def _exchange(self, line: bytes) -> dict[str, Any]:
        connection = self._connection()
        connection.sendall(line)
        while b"\n" not in self._rest:
            data = connection.recv(LONGEST_LINE)
            if not data:
                raise ConnectionResetError("it closed the connection")
            self._rest += data
        reply, _, self._rest = self._rest.partition(b"\n")
        return dict(json.loads(reply))

    def _connection(self) -> socket.socket:
        if self._pid != os.getpid():  # a fork's copy: the parent goes on with its own
            self.close()
            self._pid = os.getpid()
        if self._socket is None:
            connection = unix_stream()
            connection.settimeout(self._timeout)
            with contextlib.ExitStack() as stack:
                stack.callback(connection.close)
                with socket_address(runtime_directory(self.mountpoint)) as address:
                    self._until(lambda: _connected(connection, address))
                stack.pop_all()
            self._socket = connection
        return self._socket

    def _nobody(self) -> MountError:
        return MountError(
            f"no ossmount mount of this user at {self.mountpoint}", "see 'ossmount list' for what is mounted"
        )


def _connected(connection: socket.socket, address: str) -> bool:
    """False where too many others wait to be let in: with a time limit, connect(2) then does not wait."""
    try:
        connection.connect(address)
    except BlockingIOError:
        return False
    return True


def _refusal(mountpoint: str, answer: Mapping[str, Any]) -> MountError:
    return MountError(f"{mountpoint}: {answer.get('message', 'refused')}", str(answer.get("remedy", "")))
