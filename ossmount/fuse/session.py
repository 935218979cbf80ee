"""A mount from pyfuse3's ``init`` to its ``close``: the part that belongs to the supervisor alone.

What may live here: opening and closing the kernel's connection, and what is written to it besides
answers. Who may touch it: whoever changes mount options or the hand-shake.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import logging
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pyfuse3

from ossmount.config import MountSettings
from ossmount.errors import MountError, MountpointUnusable
from ossmount.fuse.accept import CONNECTION_ENDED
from ossmount.fuse.hand_shake import LARGEST_REQUEST, HandShake
from ossmount.fuse.kernel_knobs import connection_of
from ossmount.fuse.mountpoint import (
    FILESYSTEM_TYPE,
    Descriptor,
    Directory,
    Mountpoint,
    mounted_at,
    unmount,
)
from ossmount.fuse.operations import Operations

log = logging.getLogger(__name__)

ANSWER_HEAD = struct.Struct("=IiQ")
"""``fuse_out_header`` (include/uapi/linux/fuse.h): length, error or notification, unique."""

NOTIFY_RESEND = ANSWER_HEAD.pack(ANSWER_HEAD.size, 7, 0)
"""``FUSE_NOTIFY_RESEND`` (Linux 6.9)."""

REFUSED_AT_ONCE = 1024
"""Programs may ask again at once for what was refused; whoever refuses looks at the clock in between."""

REQUEST_HEAD = struct.Struct("=IIQ")
"""The beginning of ``fuse_in_header``: length, opcode, unique."""

WITHOUT_ANSWER = frozenset({2, 36, 42})
"""``FUSE_FORGET``, ``FUSE_INTERRUPT``, ``FUSE_BATCH_FORGET``."""


class State(enum.Enum):
    """The life of a mount; it only moves forward."""

    STARTING = 1
    SERVING = 2
    DRAINING = 3
    CLOSED = 4


def mount_options(settings: MountSettings, source: str) -> set[str]:
    """Options for libfuse. ``ro`` keeps reads from invalidating atime; never add ``max_read`` (FACTS)."""
    name = "".join("\\" + letter if letter in ",\\" else letter for letter in source)
    printable = name.encode("ascii", "backslashreplace").decode()
    options = {"ro", "default_permissions", f"fsname={printable}", f"subtype={FILESYSTEM_TYPE.split('.')[1]}"}
    return options | ({"allow_other"} if settings.allow_other else set())


class _InitObserved(Operations):
    """Operations that say when ``FUSE_INIT`` was handled."""

    hand_shake: HandShake

    def init(self) -> None:
        self.hand_shake.handled = True


@dataclass
class MountSession:
    """One connection to the kernel. Made by :meth:`open`; :meth:`close` unmounts."""

    mountpoint: Mountpoint
    operations: Operations
    device: int
    """Descriptor of ``/dev/fuse``, shared by all children."""
    connection: int | None = None
    """Its number, by which the mount is told from others at its place; None where nobody tells."""
    state: State = State.STARTING
    can_resend: bool = True
    detached: bool = False

    @classmethod
    def open(cls, mountpoint: Mountpoint, settings: MountSettings, source: str) -> MountSession:
        """Mounts and answers ``FUSE_INIT``. Nothing else is answered until workers run.

        Raises MountError.
        """
        operations = _InitObserved.for_settings(settings)
        hand_shake = operations.hand_shake = HandShake(settings)
        target, options = _target(mountpoint), mount_options(settings, source)
        if isinstance(mountpoint, Descriptor):
            options = set()  # whoever mounted it chose them
        hand_shake.install()
        with _libfuse_complaints() as complaints:
            try:
                pyfuse3.init(operations, target, options)
            except RuntimeError as error:
                raise MountError(
                    f"cannot mount on {target}: {complaints() or error}", _remedy(settings)
                ) from error
        try:
            device = hand_shake.answer(target)
        except BaseException:
            pyfuse3.close(unmount=isinstance(mountpoint, Directory))
            raise
        # A killed program takes its request back between poll and read; blocking then would stop a worker.
        flags = fcntl.fcntl(device, fcntl.F_GETFL)
        fcntl.fcntl(device, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        return cls(mountpoint, operations, device, _connection(device, mountpoint))

    def advance(self, state: State) -> None:
        """Moves on to ``state``; moving back is an error of the caller."""
        if state.value < self.state.value:
            raise ValueError(f"a mount does not go from {self.state.name} to {state.name}")
        self.state = state

    def resend(self) -> bool:
        """Has the kernel hand out all unanswered requests again. False where it cannot (Linux < 6.9)."""
        if not self.can_resend:
            return False
        try:
            os.write(self.device, NOTIFY_RESEND)
        except OSError as error:
            if error.errno in CONNECTION_ENDED:
                return False
            self.can_resend = False
            log.warning(
                "this kernel cannot resend requests (Linux 6.9 can): programs may see EIO when a worker dies"
            )
        return self.can_resend

    def refuse(self) -> bool:
        """Answers what nobody will answer any more with an error. For when no worker is left.

        False where the kernel keeps some of it: what dead workers had accepted, before Linux 6.9.
        """
        handed_out = self.resend()
        try:
            for _ in range(REFUSED_AT_ONCE):
                _, opcode, unique = REQUEST_HEAD.unpack_from(os.read(self.device, LARGEST_REQUEST))
                if opcode not in WITHOUT_ANSWER:
                    with suppress(OSError):  # who asked is gone
                        os.write(self.device, ANSWER_HEAD.pack(ANSWER_HEAD.size, -errno.ENOTCONN, unique))
        except BlockingIOError:
            return handed_out
        except OSError as error:
            return error.errno in CONNECTION_ENDED
        return handed_out

    def detach(self) -> bool:
        """Takes the mount out of the tree. True when nothing uses it any more.

        A busy mount is detached lazily: open files are served until they are closed. What else is mounted
        there stays: an automount, below ours, is systemd's.
        """
        if isinstance(self.mountpoint, Descriptor):
            return True
        if self.detached:
            return False
        self.detached = True
        mounted = mounted_at(self.mountpoint.path)
        if mounted is not None and self.connection not in {None, mounted.connection}:
            log.info("%s shows another mount by now, which stays", self.mountpoint)
            return False
        try:
            unmount(self.mountpoint.path)
        except MountpointUnusable:
            try:
                unmount(self.mountpoint.path, lazy=True)
            except MountpointUnusable as error:
                log.info("%s", error.message)  # somebody was faster
            return False
        return True

    def close(self) -> None:
        """Unmounts what is still mounted and gives the connection back. Once, in the supervisor."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        pyfuse3.close(unmount=isinstance(self.mountpoint, Directory) and not self.detached)


def _connection(device: int, mountpoint: Mountpoint) -> int | None:
    connection = connection_of(device)
    if connection is None and isinstance(mountpoint, Directory):
        mounted = mounted_at(mountpoint.path)
        return None if mounted is None else mounted.connection
    return connection


def _target(mountpoint: Mountpoint) -> str:
    if isinstance(mountpoint, Descriptor):
        return f"/dev/fd/{mountpoint.fd}"
    return str(mountpoint.path)


def _remedy(settings: MountSettings) -> str:
    if settings.allow_other and os.geteuid() != 0:
        return "--allow-other needs the line user_allow_other in /etc/fuse.conf"
    return "see 'ossmount doctor'"


@contextmanager
def _libfuse_complaints() -> Iterator[Callable[[], str]]:
    """libfuse and fusermount3 explain a failed mount on standard error only: collects it instead."""
    sys.stderr.flush()
    saved, memory = os.dup(2), os.memfd_create("libfuse")
    os.dup2(memory, 2)

    def text() -> str:
        lines = os.pread(memory, 4096, 0).decode(errors="replace").split("\n")
        return "; ".join(line.strip() for line in lines if line.strip())

    try:
        yield text
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(memory)
