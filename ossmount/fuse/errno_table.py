"""The one errno table: what a program sees for each of our errors (SEMANTICS, Errors).

What may live here: the table and its look-up. Who may touch it: whoever adds an error class, together
with ``docs/semantics.md``.
"""

from __future__ import annotations

import errno

from ossmount import errors

ERRNOS: dict[type[BaseException], int] = {
    errors.NoSuchEntry: errno.ENOENT,
    # ESTALE and not ENOENT: the kernel then looks up the whole path again, and programs see nothing.
    errors.StaleInode: errno.ESTALE,
    errors.NameTooLong: errno.ENAMETOOLONG,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.NoSuchAttribute: errno.ENODATA,
    errors.ReadOnly: errno.EROFS,
    # The index promised one version and the bucket holds another or none: the handle is stale.
    errors.ObjectChanged: errno.ESTALE,
    errors.ObjectMissing: errno.ESTALE,
    errors.AccessDenied: errno.EACCES,
    errors.DeadlineExceeded: errno.ETIMEDOUT,
    errors.StoreError: errno.EIO,
    errors.OssmountError: errno.EIO,
}
"""By class; a subclass takes the entry of its nearest listed base."""

UNKNOWN = errno.EIO
"""What a bug in this program looks like to others."""

ORDINARY = frozenset(
    {errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ENODATA, errno.EROFS}
)
"""Answers of a healthy file system: never logged."""


def errno_of(error: BaseException) -> int:
    """The errno of ``error``; EIO where the table does not know its class."""
    for cls in type(error).__mro__:
        if cls in ERRNOS:
            return ERRNOS[cls]
    return UNKNOWN


def is_known(error: BaseException) -> bool:
    """True where the table has an entry, so the error was raised on purpose."""
    return any(cls in ERRNOS for cls in type(error).__mro__)
