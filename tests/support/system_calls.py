"""Descriptors of other processes, as a thread that outlives its process in the kernel keeps them.

Touch it when a test needs another call that Python does not offer.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_PIDFD_GETFD = 438
"""``pidfd_getfd(2)``: the same number on every architecture, and newer than glibc's wrappers."""

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def copied_descriptor(pid: int, name: str) -> Iterator[int]:
    """The open file ``name`` of process ``pid``, open here too until the block is left. Raises OSError."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    number = next(int(link.name) for link in links if str(link.readlink()) == name)
    process = os.pidfd_open(pid)
    try:
        copy = _libc.syscall(_PIDFD_GETFD, process, number, 0)
    finally:
        os.close(process)
    if copy < 0:
        raise OSError(ctypes.get_errno(), f"descriptor {number} of process {pid} cannot be copied")
    try:
        yield copy
    finally:
        os.close(copy)
