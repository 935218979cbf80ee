"""The error tree. Foreign exceptions are translated where they enter and kept as ``__cause__``.

::

    OssmountError                 exit status 1
    ├── SettingsError             2   an option, variable or file that cannot be used
    ├── SourceError               3   what is to be mounted cannot be read
    │   ├── EmptySource
    │   ├── ManifestError             carries file and line
    │   └── TwoSizes                  carries the object and both
    ├── IndexFileError            4   an index file that cannot be used
    │   ├── IndexVersionError
    │   ├── IndexDamaged
    │   └── NameRefused               --on-bad-key fail
    ├── StoreError                5   a store did not give what was asked for
    │   ├── ObjectMissing
    │   ├── ObjectChanged
    │   ├── BucketMissing
    │   ├── AccessDenied
    │   ├── Unlistable                its listing cannot be followed
    │   ├── StoreUnavailable          may pass: retried
    │   │   └── Throttled
    │   └── DeadlineExceeded
    ├── MountError                6   the mount cannot be made, or does not serve
    │   ├── DeviceUnavailable
    │   ├── MountpointUnusable
    │   └── RuntimeUnusable           full, or somebody else's
    ├── CacheError                7   the cache directory cannot be used
    └── FileSystemError               an answer to a program, never seen on a terminal
        ├── NoSuchEntry
        │   └── StaleInode            of another generation
        ├── NameTooLong
        ├── NotADirectory
        ├── IsADirectory
        ├── NoSuchAttribute
        └── ReadOnly
"""

from __future__ import annotations

from typing import ClassVar


class OssmountError(Exception):
    """Everything this package raises on purpose.

    ``message`` is one line that names the thing that failed; ``remedy`` is what the user can do.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class SettingsError(OssmountError):
    """An option, environment variable or configuration file cannot be used."""

    exit_status = 2


class SourceError(OssmountError):
    """The source cannot be read."""

    exit_status = 3


class EmptySource(SourceError):
    """The source names no object at all."""


class ManifestError(SourceError):
    """A malformed manifest; ``place`` and ``line`` (from 1) say where."""

    def __init__(self, place: str, line: int, message: str, remedy: str = "") -> None:
        super().__init__(f"{place}:{line}: {message}", remedy)
        self.place = place
        self.line = line


class TwoSizes(SourceError):
    """A source gives one object two sizes, so one of its rows is wrong; ``root`` and ``key`` say which."""

    def __init__(
        self, root: str, key: str, sizes: tuple[int, int], remedy: str = "correct the source"
    ) -> None:
        super().__init__(f"{root}/{key} is there with {sizes[0]} bytes and with {sizes[1]}", remedy)
        self.root = root
        self.key = key
        self.sizes = sizes


class IndexFileError(OssmountError):
    """An index file cannot be used."""

    exit_status = 4


class IndexVersionError(IndexFileError):
    """The index was written in a format that this version does not read."""


class IndexDamaged(IndexFileError):
    """The index is truncated or its checksum is wrong."""


class NameRefused(IndexFileError):
    """A key that cannot be a name was met under ``--on-bad-key fail``."""


class StoreError(OssmountError):
    """A store did not give what was asked for."""

    exit_status = 5


class ObjectMissing(StoreError):
    """The object is not there (404)."""


class ObjectChanged(StoreError):
    """The object's ETag is not the indexed one (412)."""


class BucketMissing(StoreError):
    """The bucket, directory or host is not there."""


class AccessDenied(StoreError):
    """Credentials are missing, wrong, expired or not allowed (401, 403)."""


class Unlistable(StoreError):
    """The store's listing cannot be followed to its end. Its objects can be read."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or answers 5xx. Worth a retry."""


class Throttled(StoreUnavailable):
    """The store asks for fewer requests (429, 503 SlowDown)."""


class DeadlineExceeded(StoreError):
    """The read deadline passed."""


class MountError(OssmountError):
    """The mount cannot be made, or does not serve."""

    exit_status = 6


class DeviceUnavailable(MountError):
    """No usable ``/dev/fuse`` or no ``fusermount3``."""


class MountpointUnusable(MountError):
    """The mountpoint is missing, not a directory, not empty, busy or dead."""


class RuntimeUnusable(MountError):
    """The runtime directory cannot be written: its disk is full, or it belongs to somebody else."""


class CacheError(OssmountError):
    """The cache directory cannot be used. Readers never see it: a bad cache is a miss."""

    exit_status = 7


class FileSystemError(OssmountError):
    """An answer to a program; :mod:`ossmount.fuse.errno_table` turns it into an errno."""


class NoSuchEntry(FileSystemError):
    """No such name, or no such inode."""


class StaleInode(NoSuchEntry):
    """No such inode number: one of a generation that is gone. The kernel then looks up the name anew."""


class NameTooLong(FileSystemError):
    """A name that no file system of Linux may hold."""


class NotADirectory(FileSystemError):
    """A directory operation on a file."""


class IsADirectory(FileSystemError):
    """A file operation on a directory."""


class NoSuchAttribute(FileSystemError):
    """No such extended attribute."""


class ReadOnly(FileSystemError):
    """Any write."""


def encode_error(error: OssmountError) -> dict[str, str]:
    """An error as plain text fields, for a pipe."""
    return {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}


def decode_error(fields: dict[str, str]) -> OssmountError:
    """The error that :func:`encode_error` wrote; an unknown type becomes OssmountError."""
    kind = globals().get(fields["type"], OssmountError)
    error: OssmountError = kind.__new__(kind)
    OssmountError.__init__(error, fields["message"], fields["remedy"])
    return error
