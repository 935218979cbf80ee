"""Telling the kernel what it must ask for again (``FUSE_NOTIFY_INVAL_ENTRY``, ``FUSE_NOTIFY_INVAL_INODE``).

What may live here: these notifications. Who may touch it: whoever changes what a swap of generations
invalidates. A notification waits for requests about the same directory, so whoever sends one must not be
who answers: it runs in a process of its own while workers answer.
"""

from __future__ import annotations

import errno
import logging

import pyfuse3

log = logging.getLogger(__name__)

_NOT_KNOWN = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ECONNABORTED})
"""The kernel knows no such name or inode (any more), or the mount has ended: nothing is left to forget."""


def forget_name(parent: int, name: bytes) -> bool:
    """Has the kernel look up ``name`` again, also where it knows that there is none. True: it knew it."""
    try:
        pyfuse3.invalidate_entry(parent, name)
    except OSError as error:
        return _refused(error, f"name {name!r} in inode {parent}")
    return True


def forget_attributes(ino: int) -> bool:
    """Has the kernel ask for the attributes of ``ino`` again; its pages stay. True: it knew the inode."""
    try:
        pyfuse3.invalidate_inode(ino, attr_only=True)
    except OSError as error:
        return _refused(error, f"inode {ino}")
    return True


def _refused(error: OSError, what: str) -> bool:
    if error.errno not in _NOT_KNOWN:
        log.warning("the kernel did not forget %s: %s", what, error)
    return False
