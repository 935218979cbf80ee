"""Files that the kernel opens without asking, once nothing is learned from their opens.

ENOSYS as the answer to an OPEN means: open this and every other file, and never ask again (linux/fuse.h,
``FUSE_NO_OPEN_SUPPORT``). What a file costs in later epochs are three requests, two of which are OPEN and
RELEASE. What may live here: when that is said, and what follows for READs. Who may touch it: whoever has
measured later epochs before and after.
"""

from __future__ import annotations

import logging
from typing import Protocol

from ossmount.fuse.contract import ServedFileSystem

log = logging.getLogger(__name__)


class Headers(Protocol):
    """What is needed of :class:`ossmount.fuse.request_headers.RequestHeaders`."""

    def tells(self, inode: int, thread: int) -> bool:
        """Whether the inode of the OPEN being handled, and of what follows, can be read."""
        ...

    def inode_of_read(self, offset: int, size: int) -> int:
        """The inode of the READ being handled, which has no handle. Raises FileSystemError."""
        ...


class UnaskedOpens:
    """One worker's part in it. ``allowed`` False: the kernel is never told; another may have done so."""

    def __init__(self, fs: ServedFileSystem, headers: Headers, *, allowed: bool) -> None:
        self._fs, self._headers, self._allowed = fs, headers, allowed

    def __repr__(self) -> str:
        return f"UnaskedOpens(allowed={self._allowed})"

    def begin(self, inode: int, thread: int) -> bool:
        """During an OPEN: whether the kernel is to be told not to ask again."""
        if not self._allowed or self._fs.opens_matter:
            return False
        self._allowed = False  # asked once, answered for good
        if not self._headers.tells(inode, thread):
            log.info("the kernel goes on to ask before opens: requests cannot be read here")
            return False
        self._fs.opens_end()
        log.info("programs only read again what has come: the kernel is told to open files without asking")
        return True

    def inode_of_read(self, offset: int, size: int) -> int:
        """Of a READ without a handle, before its handler first suspends. Raises FileSystemError."""
        self._fs.read_unasked()
        return self._headers.inode_of_read(offset, size)
