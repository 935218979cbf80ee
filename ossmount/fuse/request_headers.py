"""Which inode a READ is of, where it has no handle: what the kernel wrote before the request.

A kernel that opens files without asking (:mod:`ossmount.fuse.unasked`) has no handle to send,
and pyfuse3 hands a READ nothing else. But the request lies in memory while it is handled: libfuse read it
into a buffer of the session loop that handles it. So the loop's variables are searched for a pointer to a
request that is the one being handled, through ``/proc/self/mem``, where a wrong guess is an error, no crash.

What may live here: finding and reading that buffer. Who may touch it: whoever has read ``_session_loop`` of
pyfuse3 and ``linux/fuse.h``. Nothing is taken for granted: :meth:`RequestHeaders.tells` proves it by an OPEN,
whose inode pyfuse3 does tell, before any kernel is told not to ask; every READ is compared again.
"""

from __future__ import annotations

import gc
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import trio

from ossmount.errors import FileSystemError

OPEN, READ = 14, 15
"""``FUSE_OPEN``, ``FUSE_READ``."""

_REQUEST = struct.Struct("=IIQQIIIIQQI")
"""``fuse_in_header`` (length, opcode, unique, inode, uid, gid, pid, padding) and what a READ has after it
(handle, offset, size). An OPEN is shorter, but for the buffer, which is larger than any request."""

_POINTER = struct.Struct("=Q")


class Request(NamedTuple):
    """What is known of a request. The last three are a READ's."""

    opcode: int
    inode: int
    thread: int
    handle: int
    offset: int
    size: int


@dataclass(slots=True)
class _Loop:
    """A session loop, and the address of its pointer to the buffer, once known."""

    coroutine: object
    place: int | None = None


_loops: dict[trio.lowlevel.Task, _Loop] = {}


@contextmanager
def of_loop(coroutine: object) -> Iterator[None]:
    """The calling task runs this session loop of pyfuse3 until the block is left."""
    task = trio.lowlevel.current_task()
    _loops[task] = _Loop(coroutine)
    try:
        yield
    finally:
        del _loops[task]


class RequestHeaders:
    """Reads the request that the calling task handles, before it first suspends. Made after the fork."""

    def __init__(self) -> None:
        self._memory = -1
        with suppress(OSError):
            self._memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)

    def __repr__(self) -> str:
        return f"RequestHeaders({len(_loops)} loops)"

    def tells(self, inode: int, thread: int) -> bool:
        """Whether the inode of the OPEN being handled, and of what follows, can be read."""
        found = self._find(lambda request: request[:3] == (OPEN, inode, thread))
        return found is not None

    def inode_of_read(self, offset: int, size: int) -> int:
        """The inode of the READ being handled, which has no handle. Raises FileSystemError."""
        found = self._find(lambda request: request.opcode == READ and request[3:] == (0, offset, size))
        if found is None:
            raise FileSystemError("a READ came without a handle, and its request cannot be found")
        return found.inode

    def close(self) -> None:
        """Nothing can be read any more."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def _find(self, is_it: Callable[[Request], bool]) -> Request | None:
        loop = _loops.get(trio.lowlevel.current_task())
        if loop is None or self._memory < 0:
            return None
        for place in self._places(loop.coroutine) if loop.place is None else [loop.place]:
            request = self._request(place)
            if request is not None and is_it(request):
                loop.place = place
                return request
        return None

    def _places(self, coroutine: object) -> Iterator[int]:
        """Where the variables of the loop may lie: the words of what the coroutine refers to."""
        for owner in gc.get_referents(coroutine):
            yield from range(id(owner), id(owner) + type(owner).__basicsize__, _POINTER.size)

    def _request(self, place: int) -> Request | None:
        try:
            (pointer,) = _POINTER.unpack(os.pread(self._memory, _POINTER.size, place))
            fields = _REQUEST.unpack(os.pread(self._memory, _REQUEST.size, pointer))
        except (OSError, OverflowError, struct.error):
            return None
        _, opcode, _, inode, _, _, thread, _, handle, offset, size = fields
        return Request(opcode, inode, thread, handle, offset, size)
