"""A directory held by its descriptor: everything in it is reached without following a symbolic link.

The node plugin is root and works in an emptyDir that any container of the Pod may write: a path that was
checked may lead elsewhere a moment later, a descriptor does not. What may live here: such operations.
Who may touch it: whoever needs another one, and never with a path of more than one component.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

LEVELS_MAX = 16
"""Directories in each other that are removed. Each costs a descriptor and room on the stack, and whoever may
write there could make thousands; nobody here makes more than three."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """An open directory. Use it in ``with``, or close it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Opens ``path``, of which only the last component must be no link. Raises OSError."""
        return cls(os.open(path, _DIRECTORY))

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Folder {self.fd}>"

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self.fd)

    def path(self, name: str) -> str:
        """A path to ``name`` in it that is short, for sockets, and good as long as this is open."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def child(self, name: str) -> Folder:
        """A directory in it. Raises OSError, also where it is a link."""
        return Folder(os.open(name, _DIRECTORY, dir_fd=self.fd))

    def make(self, name: str, owner: int, mode: int) -> Folder:
        """A directory in it, made if it is missing. Raises PermissionError where another user owns it."""
        made = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.fd)
            made = True
        folder = self.child(name)
        try:
            if made:
                os.fchown(folder.fd, owner, -1)
            folder.must_belong_to(owner)
            os.fchmod(folder.fd, mode)
        except BaseException:
            folder.close()
            raise
        return folder

    def must_belong_to(self, owner: int) -> None:
        """Raises PermissionError where another user owns it."""
        found = os.fstat(self.fd).st_uid
        if found != owner:
            raise PermissionError(1, f"a directory belongs to user {found} instead of {owner}")

    def owner(self, name: str) -> int | None:
        """The user who owns ``name``; None where it is missing."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_uid
        return None

    def names(self) -> list[str]:
        """What is in it, sorted."""
        return sorted(os.listdir(self.fd))  # noqa: PTH208 - pathlib knows no descriptors

    def write(self, name: str, text: str, owner: int | None = None) -> None:
        """Writes a file (0600) beside and renames it. Raises OSError."""
        beside = f".{name}.new"
        self.remove(beside)
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.fd
        )
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(text)
                if owner is not None:
                    os.fchown(descriptor, owner, -1)
            os.rename(beside, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError:
            self.remove(beside)
            raise

    def read(self, name: str, limit: int) -> str | None:
        """The text of a regular file, at most ``limit`` bytes; None where there is no such file."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=self.fd)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return os.read(descriptor, limit).decode(errors="replace")
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """Removes a file, link or socket, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def remove_folder(self, name: str, levels: int = LEVELS_MAX) -> None:
        """Removes a directory and what is in it, if it is there. Raises OSError, also for one too deep."""
        if not levels:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
        try:
            with self.child(name) as folder:
                for inner in folder.names():
                    folder.remove_any(inner, levels - 1)
        except FileNotFoundError:
            return
        os.rmdir(name, dir_fd=self.fd)

    def remove_any(self, name: str, levels: int = LEVELS_MAX) -> None:
        """Removes ``name`` whatever it is. Raises OSError."""
        try:
            self.remove(name)
        except (IsADirectoryError, PermissionError):
            self.remove_folder(name, levels)


@contextlib.contextmanager
def folders(path: Path, *names: str) -> Iterator[Folder]:
    """The directory ``names`` below ``path``, each component opened by itself. Raises OSError."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Folder.open(path))
        for name in names:
            folder = stack.enter_context(folder.child(name))
        yield folder
