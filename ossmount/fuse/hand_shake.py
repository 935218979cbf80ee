"""The first exchange of a connection: the kernel's ``FUSE_INIT``, and libfuse's answer with our limits in it.

How many requests the kernel keeps outstanding stands in that answer (``max_background``; 12 where it names
none, which also splits READs into pages). libfuse takes the number from nobody but its own high-level
interface, and afterwards only root or the owner of the mount may set it, where fusectl is mounted, which no
container has. How far the kernel may read ahead stands there, too, and libfuse gives back what it was asked:
for a mount that was handed over that is less than what the mounting process has set meanwhile, and undoes it.
And it never says that look-ups in a directory may go on side by side.
So libfuse answers into a socket, and what it says goes on to the kernel with our numbers.

What may live here: this exchange alone. Who may touch it: whoever has read ``process_init_reply`` of
fs/fuse/inode.c and ``do_init`` of libfuse's lib/fuse_lowlevel.c.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct

import pyfuse3
import trio

from ossmount.config import MountSettings
from ossmount.errors import MountError
from ossmount.fuse.accept import CONNECTION_ENDED, TrioForPyfuse3

INIT_TIMEOUT = 10.0
"""Seconds for the kernel's ``FUSE_INIT``. It is queued by mount(2); only a wrong descriptor has none."""

CONGESTION_SHARE = 0.75
"""Congestion threshold as a share of max_background: the kernel's own default (fs/fuse/inode.c)."""

LARGEST_REQUEST = 256 * mmap.PAGESIZE + (1 << 12)
"""What a read of the device must have room for: 256 pages and headers (libfuse's buffer)."""

_LIMITS = struct.Struct("=IIHH")
"""``max_readahead``, ``flags``, ``max_background`` and ``congestion_threshold`` of ``fuse_init_out``
(linux/fuse.h, since 7.13)."""

PARALLEL_DIROPS = 1 << 18
"""``FUSE_PARALLEL_DIROPS`` (linux/fuse.h, since 7.25): LOOKUP and READDIR of a directory side by side.

Without it the kernel sends one after the other, and whoever waits for his turn cannot even be killed."""

_LIMITS_AT = 24
"""After ``fuse_out_header`` (16 bytes), ``major`` and ``minor``."""


def with_limits(answer: bytes, settings: MountSettings) -> bytes:
    """libfuse's answer to ``FUSE_INIT`` with what ``settings`` say, and with PARALLEL_DIROPS.

    One that is an error stays as it is.
    """
    if len(answer) < _LIMITS_AT + _LIMITS.size:
        return answer
    read_ahead, flags, _, _ = _LIMITS.unpack_from(answer, _LIMITS_AT)
    background = settings.max_background
    limits = _LIMITS.pack(
        max(read_ahead, settings.kernel_read_ahead),
        flags | PARALLEL_DIROPS,
        background,
        int(background * CONGESTION_SHARE),
    )
    return answer[:_LIMITS_AT] + limits + answer[_LIMITS_AT + _LIMITS.size :]


class HandShake(TrioForPyfuse3):
    """Lets pyfuse3 handle ``FUSE_INIT`` and ends its loop before another request. For the supervisor.

    Between its two calls of :meth:`wait_readable` the device's descriptor is one end of a pair of sockets.
    """

    def __init__(self, settings: MountSettings) -> None:
        super().__init__()
        self.handled = False
        """Set by whoever hears of ``FUSE_INIT``."""
        self.device: int | None = None
        self._settings = settings
        self._kernel: int | None = None
        self._answers: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<HandShake device={self.device} handled={self.handled}>"

    def answer(self, target: str) -> int:
        """Has ``FUSE_INIT`` answered; the descriptor of the device. ``target`` names the mount in errors.

        Raises MountError.
        """
        try:
            trio.run(self._run)
        finally:
            self._put_back()
        if not self.handled or self.device is None:
            raise MountError(f"{target}: the kernel did not begin to talk", "mount it before handing it over")
        return self.device

    async def _run(self) -> None:
        with trio.move_on_after(INIT_TIMEOUT):
            await pyfuse3.main(max_tasks=1)

    async def wait_readable(self, fd: int) -> None:
        """First waits until ``FUSE_INIT`` can be read; then passes its answer on, and ends the loop."""
        self.device = fd
        if self.handled:
            self._pass_on()
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(fd)
        self._step_between(fd)

    def _step_between(self, fd: int) -> None:
        request = os.read(fd, LARGEST_REQUEST)
        self._kernel = os.dup(fd)
        self._answers, libfuse = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with libfuse:
            os.dup2(libfuse.fileno(), fd, inheritable=False)
        self._answers.send(request)

    def _pass_on(self) -> None:
        if self._answers is None or self._kernel is None:
            return
        try:
            answer = self._answers.recv(LARGEST_REQUEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self.handled = False
            return
        try:
            os.write(self._kernel, with_limits(answer, self._settings))
        except OSError as error:
            if error.errno not in CONNECTION_ENDED:  # unmounted meanwhile: others find out
                raise

    def _put_back(self) -> None:
        """The device's descriptor is the device again."""
        if self._kernel is not None and self.device is not None:
            os.dup2(self._kernel, self.device, inheritable=False)
            os.close(self._kernel)
            self._kernel = None
        if self._answers is not None:
            self._answers.close()
            self._answers = None
