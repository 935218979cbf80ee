"""System calls of Linux that Python's ``os`` does not offer.

What may live here: thin calls through libc that raise OSError. Who may touch it: only for another call.
"""

from __future__ import annotations

import ctypes
import os
import signal

MNT_DETACH = 2
"""``umount2``: detach now, clean up when no longer in use (mount.h)."""

MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
"""Flags of ``mount`` (sys/mount.h)."""

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, name: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def mount(source: str, target: str, filesystem: str, flags: int = 0, data: str = "") -> None:
    """``mount(2)``. Raises OSError."""
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            filesystem.encode(),
            ctypes.c_ulong(flags),
            data.encode() or None,
        ),
        target,
    )


def umount(target: str, flags: int = 0) -> None:
    """``umount2(2)``. Raises OSError."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def read_directory(directory: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """``getdents64(2)``: bytes of entries read from an open directory into ``buffer``; 0 at its end.

    Raises OSError.
    """
    count = int(_libc.getdents64(directory, buffer, ctypes.c_size_t(len(buffer))))
    if count < 0:
        _check(count, "getdents64")
    return count


def trim_heap() -> None:
    """``malloc_trim(3)``: gives the system what this process has freed, where libc has such a call."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def die_with_parent(parent: int, signum: signal.Signals = signal.SIGKILL) -> None:
    """Has the kernel send ``signum`` when the parent ``parent`` ends (``PR_SET_PDEATHSIG``, prctl(2)).

    More precisely, when the thread ends that forked this process. The parent may have ended before the call
    took effect; then this process ends itself.
    """
    _check(
        _libc.prctl(
            _PR_SET_PDEATHSIG,
            ctypes.c_ulong(signum),
            ctypes.c_ulong(0),
            ctypes.c_ulong(0),
            ctypes.c_ulong(0),
        ),
        "prctl",
    )
    if os.getppid() != parent:
        os._exit(1)
