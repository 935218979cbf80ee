"""The adapter: pyfuse3's requests in, calls of the file system out, nothing else.

What may live here: translation of arguments, attributes and errors. No caching, no fetching, no state
between requests: any worker may answer any request (ARCHITECTURE, Processes). Who may touch it: whoever
translates another request.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self, cast

import pyfuse3

from ossmount.config import MountSettings
from ossmount.errors import NoSuchEntry, StaleInode, StoreError
from ossmount.fuse.brief_listings import DETAILS, BriefEntry, Detail, Listers
from ossmount.fuse.contract import ServedFileSystem
from ossmount.fuse.errno_table import ORDINARY, errno_of, is_known
from ossmount.fuse.introducing import Introductions
from ossmount.fuse.throttled_log import ThrottledLog
from ossmount.fuse.unasked import UnaskedOpens
from ossmount.model import NAME_MAX, Attributes, Kind, Listing

log = logging.getLogger(__name__)

STAT_BLOCK = 512
"""The unit of ``st_blocks`` (stat(2)), whatever ``st_blksize`` says."""

STATFS_BLOCK = 4096
"""The unit in which ``statfs`` tells sizes: the page, as the kernel reads."""

PREFERRED_READ = 1 << 20
"""``st_blksize``: the largest READ the kernel sends (256 pages), so buffered readers ask for that much."""

LISTING_BUFFER = 128 << 10
"""``st_blksize`` of directories: glibc's ``opendir`` takes it as the size of its buffer, and so kernel and
libfuse allocate as much anew for every answer. Measured with entries of 160 bytes: a megabyte costs a walk
over directories of 100 files a tenth, 32 KiB one over directories of 2,000 files a fifth; 128 KiB neither."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """How inodes look: owner, permission bits and how long the kernel may keep them (seconds)."""

    uid: int
    gid: int
    file_mode: int
    dir_mode: int
    timeout: float

    @classmethod
    def of(cls, settings: MountSettings) -> Presentation:
        """From the settings; the owner is who mounts unless they say otherwise."""
        return cls(
            uid=os.getuid() if settings.uid is None else settings.uid,
            gid=os.getgid() if settings.gid is None else settings.gid,
            file_mode=stat.S_IFREG | settings.file_mode,
            dir_mode=stat.S_IFDIR | settings.dir_mode,
            timeout=settings.attr_timeout,
        )

    def blank(self, mode: int, block: int = PREFERRED_READ) -> pyfuse3.EntryAttributes:
        """Attributes in which only inode number, size, times and links are still to be set."""
        entry = pyfuse3.EntryAttributes()
        entry.st_uid, entry.st_gid, entry.st_mode = self.uid, self.gid, mode
        entry.st_blksize = block
        entry.entry_timeout = entry.attr_timeout = self.timeout
        return entry


def nothing() -> None:
    """The ``accepted`` of a process that shares the device with nobody."""


def unnoticed(thread: int) -> None:
    """The ``opens`` of a process that does not care who reads."""


def no_push(ino: int, offset: int, data: bytes) -> None:
    """The ``push`` of a mount that pushes nothing."""


async def _refuse_write(*request: object) -> NoReturn:
    raise pyfuse3.FUSEError(errno.EROFS)


_REFUSED: Any = _refuse_write


class Operations(pyfuse3.Operations):
    """Answers the kernel from one :class:`ServedFileSystem`, bound after the fork.

    libfuse copies attributes before the handler's task can be suspended again, so one object for files
    and one for directories serve every answer; building new ones halves the rate of readdir.
    """

    supports_dot_lookup = False  # only NFS export asks for "." by inode
    enable_writeback_cache = False
    enable_acl = False

    _fs: ServedFileSystem

    def __init__(self, presentation: Presentation) -> None:
        super().__init__()
        self._waits: Callable[[], None] = nothing
        self._waited: Callable[[], None] = nothing
        self._quick: Callable[[], None] = nothing
        self._push: Callable[[int, int, bytes], object] = no_push
        self._opens: Callable[[int], None] = unnoticed
        self._introductions: Introductions | None = None
        self._unasked: UnaskedOpens | None = None
        self._listers = Listers()
        self._file = presentation.blank(presentation.file_mode)
        self._directory = presentation.blank(presentation.dir_mode, LISTING_BUFFER)
        self._negative = presentation.blank(presentation.file_mode)
        self._name = BriefEntry.of(presentation.blank(presentation.file_mode))
        self._opened = pyfuse3.FileInfo(keep_cache=True)
        self._errors = ThrottledLog(log)

    @classmethod
    def for_settings(cls, settings: MountSettings) -> Self:
        """Operations that show inodes as ``settings`` say."""
        return cls(Presentation.of(settings))

    def bind(
        self,
        fs: ServedFileSystem,
        quick: Callable[[], None] = nothing,
        push: Callable[[int, int, bytes], object] = no_push,
        waits: Callable[[], None] = nothing,
        waited: Callable[[], None] = nothing,
        introductions: Introductions | None = None,
        opens: Callable[[int], None] = unnoticed,
        unasked: UnaskedOpens | None = None,
    ) -> None:
        """Serves ``fs`` from now on.

        ``waits()`` is called when a request begins whose handler suspends (READ, and OPEN where bytes are
        on their way), ``waited()`` when it goes on, ``quick()`` when one begins that does not suspend:
        another worker may take the next one. ``push(ino, offset, data)`` receives what a read fetched
        beyond its answer; it must not block. ``introductions``: prefetchers introduce files to
        the kernel, so that the listings of others are answered with names only. ``opens(thread)`` is told
        who opens files and directories. ``unasked`` decides when the kernel need not ask before opens.
        """
        self._fs = fs
        self._quick, self._push, self._waits, self._waited = quick, push, waits, waited
        self._opens = opens
        self._unasked = unasked
        self._introductions = introductions if self._name is not None else None

    # -- names and attributes ---------------------------------------------------------------------

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """LOOKUP. A name that is not there is answered with inode 0, which the kernel caches too."""
        self._quick()
        try:
            found = self._fs.lookup(parent_inode, name)
            if found.kind is Kind.FILE:
                self._listers.looks_up(ctx.pid)
            return self._entry(found)
        except StaleInode as error:
            self._refuse(error)
        except NoSuchEntry:
            return self._negative
        except Exception as error:
            self._refuse(error)

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """GETATTR."""
        self._quick()
        try:
            return self._entry(self._fs.attributes(inode))
        except Exception as error:
            self._refuse(error)

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """ACCESS; comes only without ``default_permissions``. Nothing here may be written."""
        return not mode & os.W_OK

    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """READLINK: there are no links."""
        raise pyfuse3.FUSEError(errno.EINVAL)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """GETXATTR."""
        try:
            return self._fs.xattr(inode, name)
        except Exception as error:
            self._refuse(error)

    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        """LISTXATTR."""
        try:
            return self._fs.xattr_names(inode)
        except Exception as error:
            self._refuse(error)

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """STATFS: the totals of the index; nothing is free, because nothing can be written."""
        try:
            totals = self._fs.totals()
        except Exception as error:
            self._refuse(error)
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = STATFS_BLOCK
        answer.f_blocks = -(-totals.total_bytes // STATFS_BLOCK)
        answer.f_bfree = answer.f_bavail = 0
        answer.f_files = totals.files + totals.directories
        answer.f_ffree = answer.f_favail = 0
        answer.f_namemax = NAME_MAX
        return answer

    # -- directories ------------------------------------------------------------------------------

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """OPENDIR. The handle is the inode number and what to tell: it means the same to every worker."""
        if self._introductions is not None and self._introductions.introduces(ctx.pid):
            return inode | Detail.ALL
        self._opens(ctx.pid)
        self._fs.listed(inode)
        if self._introductions is None or not self._introductions.work:
            return inode | Detail.ALL
        return inode | self._listers.opens(ctx.pid)

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """READDIRPLUS. The position behind a child is its inode number, so none is kept here.

        A tenth of a millisecond for a hundred entries: less than it costs to have another worker woken.
        """
        self._quick()
        try:
            self._fill(fh, start_id, token)
        except Exception as error:
            self._refuse(error)

    async def releasedir(self, fh: int) -> None:
        """RELEASEDIR: nothing was kept."""

    def _fill(self, fh: int, after: int, token: pyfuse3.ReaddirToken) -> None:
        """Children behind ``after`` until the kernel's buffer is full."""
        detail = fh & DETAILS
        brief = None if detail == Detail.ALL or (after and detail == Detail.LATER) else self._name
        for part in self._fs.listing(fh & ~DETAILS, after):
            if brief is None or any(part.kinds):
                more = self._fill_in_full(part, token)
            else:
                more = _fill_briefly(part, brief, token)
            if not more:
                return

    def _fill_in_full(self, part: Listing, token: pyfuse3.ReaddirToken) -> bool:
        reply = pyfuse3.readdir_reply
        file, directory = self._file, self._directory
        mtime = -1
        columns = zip(part.names, part.inos, part.kinds, part.sizes, part.mtimes_ns, part.links, strict=True)
        for name, child, kind, size, mtime_ns, links in columns:
            if kind:
                entry = directory
                entry.st_nlink = links
                _set_times(entry, mtime_ns)
            else:
                entry = file
                entry.st_size = size
                entry.st_blocks = (size + 511) >> 9
                if mtime_ns != mtime:
                    mtime = mtime_ns
                    _set_times(entry, mtime_ns)
            entry.st_ino = child
            if not reply(token, name, entry, child):
                return False
        return True

    # -- files ------------------------------------------------------------------------------------

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """OPEN. The handle is the inode number; pages of earlier opens stay (a generation never changes)."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise pyfuse3.FUSEError(errno.EROFS)
        self._quick()
        self._opens(ctx.pid)
        try:
            arrival = self._fs.opened(inode)
            if arrival is not None:
                self._waits()
                try:
                    await arrival()
                finally:
                    self._waited()
        except Exception as error:
            self._refuse(error)
        if self._unasked is not None and self._unasked.begin(inode, ctx.pid):
            raise pyfuse3.FUSEError(errno.ENOSYS)
        self._opened.fh = inode
        return self._opened

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """READ. What was fetched beyond the answer goes to the page cache after it."""
        self._quick()
        try:
            if not fh and self._unasked is not None:
                fh = self._unasked.inode_of_read(off, size)
            data = self._fs.read_nowait(fh, off, size)
            if data is None:
                data = await self._read_waiting(fh, off, size)
            rest = self._fs.remainder(fh)
        except Exception as error:
            self._refuse(error)
        if rest is not None:
            self._push(fh, *rest)
        return cast("bytes", data)  # pyfuse3 takes a view, and answers before anything else runs

    async def _read_waiting(self, fh: int, off: int, size: int) -> bytes:
        self._waits()
        try:
            return await self._fs.read(fh, off, size)
        finally:
            self._waited()

    async def release(self, fh: int) -> None:
        """RELEASE: nothing was kept."""

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """FORGET: the index numbers inodes, not this process."""

    # -- whatever writes: EROFS -------------------------------------------------------------------
    # A mount made with "ro" is refused by the kernel itself; a descriptor that somebody else mounted
    # without it arrives here. fsync and flush stay ENOSYS: the kernel then reports success unasked.

    setattr = _REFUSED
    mknod = _REFUSED
    mkdir = _REFUSED
    unlink = _REFUSED
    rmdir = _REFUSED
    symlink = _REFUSED
    rename = _REFUSED
    link = _REFUSED
    create = _REFUSED
    write = _REFUSED
    setxattr = _REFUSED
    removexattr = _REFUSED

    # -- translation ------------------------------------------------------------------------------

    def _entry(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        ino, kind, size, mtime_ns, links = attributes
        entry = self._directory if kind is Kind.DIRECTORY else self._file
        entry.st_ino = ino
        entry.st_nlink = links
        entry.st_size = size
        entry.st_blocks = -(-size // STAT_BLOCK)
        _set_times(entry, mtime_ns)
        return entry

    def _refuse(self, error: Exception) -> NoReturn:
        """Raises what pyfuse3 turns into an errno; logs what nobody below has logged.

        The file system reports errors of stores itself, because it knows the key.
        """
        code = errno_of(error)
        if not is_known(error):
            self._errors.log(logging.ERROR, f"unexpected {type(error).__name__}: {error}", error)
        elif code not in ORDINARY and not isinstance(error, StoreError):
            self._errors.log(logging.WARNING, str(error))
        raise pyfuse3.FUSEError(code) from error


def _fill_briefly(part: Listing, brief: BriefEntry, token: pyfuse3.ReaddirToken) -> bool:
    """Files by name only: the kernel makes no inodes of them."""
    reply, entry, number = pyfuse3.readdir_reply, brief.entry, brief.number
    for name, child in zip(part.names, part.inos, strict=True):
        number[0] = child
        if not reply(token, name, entry, child):
            return False
    return True


def _set_times(entry: pyfuse3.EntryAttributes, mtime_ns: int) -> None:
    """Objects have one time, Last-Modified."""
    entry.st_mtime_ns = entry.st_ctime_ns = entry.st_atime_ns = mtime_ns
