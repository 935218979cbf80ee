"""What the adapter asks of the rooms around it: the file system it serves and how a child is set up.

What may live here: types without behaviour that ``ossmount.app`` writes against. Who may touch it: whoever
changes what the kernel's side needs of :mod:`ossmount.fs`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ossmount.errors import OssmountError
from ossmount.model import Attributes, Listing


class Totals(Protocol):
    """What ``statfs`` tells."""

    @property
    def files(self) -> int: ...  # noqa: D102
    @property
    def directories(self) -> int: ...  # noqa: D102
    @property
    def total_bytes(self) -> int: ...  # noqa: D102


class ServedFileSystem(Protocol):
    """The file system that a worker serves, in its own terms: its errors are OssmountError.

    Every method but :meth:`read` returns without waiting.
    """

    def lookup(self, parent: int, name: bytes) -> Attributes:
        """Raises NoSuchEntry, NotADirectory, NameTooLong."""
        ...

    def attributes(self, ino: int) -> Attributes:
        """Raises NoSuchEntry."""
        ...

    def listed(self, ino: int) -> None:
        """Is told when a program begins to list the directory."""
        ...

    def listing(self, ino: int, after: int) -> Iterable[Listing]:
        """Children behind the child with inode number ``after`` (0: from the first), in chunks.

        Raises NoSuchEntry, NotADirectory.
        """
        ...

    def opened(self, ino: int) -> Callable[[], Awaitable[None]] | None:
        """Is told of every open: with pages in the kernel it is the only sign of a reader.

        Returns what to await before the open is answered: bytes that are on their way to the page cache.
        """
        ...

    @property
    def opens_matter(self) -> bool:
        """False once programs only open again what has come: nothing is learned from their opens."""
        ...

    def opens_end(self) -> None:
        """Is told that the kernel does not ask any more before it opens files."""
        ...

    def read_unasked(self) -> None:
        """Is told of each READ, before it, of a file that the kernel opened without asking."""
        ...

    def read_nowait(self, ino: int, offset: int, size: int) -> bytes | memoryview | None:
        """As :meth:`read`, where nothing has to be waited for that takes long; else None.

        The bytes are there until the next call.
        """
        ...

    async def read(self, ino: int, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def remainder(self, ino: int) -> tuple[int, bytes] | None:
        """What was fetched with the last read of ``ino`` and not handed out: (offset, bytes), once."""
        ...

    def xattr(self, ino: int, name: bytes) -> bytes:
        """Raises NoSuchAttribute."""
        ...

    def xattr_names(self, ino: int) -> Sequence[bytes]:
        """The names of the extended attributes of ``ino``."""
        ...

    def totals(self) -> Totals:
        """The totals of the index."""
        ...


Serve = Callable[[int], AbstractAsyncContextManager[ServedFileSystem]]
"""Entered in worker ``number`` under trio, after the fork: opens index, stores and caches."""

Prefetch = Callable[[int], Awaitable[None]]
"""Runs in prefetcher ``number`` under trio, after the fork; may call :func:`ossmount.fuse.pages.push`."""


class Supervising(Protocol):
    """What a callback of the app may ask of the supervisor it runs in."""

    def stop(self) -> None:
        """Drain and unmount, as SIGTERM does."""
        ...

    def signal_children(self, signum: int) -> None:
        """Sends a signal to every worker and prefetcher."""
        ...

    def statistics(self) -> Mapping[str, int]:
        """Counters: workers, prefetchers, restarts (after a death, and by a swap), resends."""
        ...

    def watch(self, fd: int, callback: Callable[[Supervising], None]) -> None:
        """Calls ``callback`` whenever ``fd`` is readable, until :meth:`unwatch`."""
        ...

    def unwatch(self, fd: int) -> None:
        """To be called before ``fd`` is closed."""
        ...

    def later(self, seconds: float, callback: Callable[[Supervising], None]) -> None:
        """Calls ``callback`` once, in ``seconds``."""
        ...

    def errand(self, work: Callable[[], bytes], done: Callable[[Supervising, bytes], None]) -> None:
        """Has ``work()`` done in a process of its own.

        ``done`` receives its result, b"" where it died or could not be begun; then before this returns.
        """
        ...

    def swap(
        self,
        serve: Serve,
        prefetch: Prefetch | None,
        done: Callable[[Supervising, OssmountError | None], None],
    ) -> bool:
        """Replaces every child by one with another file system; False where that cannot begin now.

        Old prefetchers end, old workers answer what they have accepted and end, then the new ones are
        forked: no answer of the old follows one of the new. ``done`` is called when a new worker answers,
        or with the reason why the old ones go on.
        """
        ...


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Where the supervisor calls the app. All run in the supervisor, between two waits: be quick.

    ``on_start`` once, before anything else. ``on_serving`` once, when a worker answers requests.
    ``on_hangup`` on SIGHUP. ``on_readable`` by descriptor (a control socket): called when it is readable.
    ``in_child`` first of all in each new child, to close what only the supervisor may hold (a connection's
    peer waits for the last copy to close).
    """

    on_start: Callable[[Supervising], None] = lambda _: None
    on_serving: Callable[[], None] = lambda: None
    on_hangup: Callable[[Supervising], None] = lambda _: None
    on_readable: Mapping[int, Callable[[Supervising], None]] | None = None
    in_child: Callable[[], None] = lambda: None
