"""A listing in a process of its own, so that listing and building an index take a core each.

What may live here: the fork, and what the two processes tell each other. Who may touch it: whoever has
measured a listing before and after (``python -m tests.bench --cases listing``).

The child lists and appends to the spool; over a pipe it says where each settled span stands. The parent reads
the pages from the spool in order of their keys. A pipe that is full holds the child back. The child ends with
its parent, however that ends, and may be killed at any moment: records have checksums.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import msgpack  # type: ignore[import-untyped]

from ossmount.errors import OssmountError, StoreUnavailable, decode_error, encode_error
from ossmount.model import ListPage
from ossmount.protocols import ObjectStore
from ossmount.sources.listing_plan import Span
from ossmount.sources.listing_spool import Record, Spool
from ossmount.sources.parallel_listing import TELL_SECONDS, Listed, ParallelListing, in_order
from ossmount.system_calls import die_with_parent

_PIPE_BYTES = 1 << 16
"""What a pipe of Linux holds: some hundred messages, so the child is seldom held back."""


def may_fork() -> bool:
    """Whether this process has one thread only, those of native libraries counted.

    What another thread holds at a fork, the child waits for without end; and a native client whose own
    threads are lost (opendal's, for one) never answers there, not even a new one.
    """
    return len(list(Path("/proc/self/task").iterdir())) == 1


class ListingStores(Protocol):
    """Opens stores in the process that lists. Never used before: no connection crosses a fork."""

    on_throttled: Callable[[], None]
    """Called in any thread when a store asked for fewer requests."""

    def __call__(self, root_uri: str) -> ObjectStore:
        """The store for ``root_uri``."""
        ...


class ListingProcess:
    """One listing. ``pages`` may be called once; the spool belongs to the caller and is read here only."""

    def __init__(
        self, open_store: ListingStores, root_uri: str, prefix: str, spool: Spool, concurrency: int
    ) -> None:
        self._open_store, self._root_uri, self._prefix = open_store, root_uri, prefix
        self._spool, self._concurrency = spool, concurrency
        self._unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
        self._finished = False

    def __repr__(self) -> str:
        return f"ListingProcess({self._root_uri}/{self._prefix}, {self._spool!r})"

    def pages(self, listed: Listed) -> Iterator[ListPage]:
        """As :meth:`ParallelListing.pages`. Raises OssmountError, and OSError of the spool."""
        # An interrupt between the fork and the block below would leave the child to nobody.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            child, reading = self._fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise OssmountError(
                f"no process that lists can be started: {error.strerror}",
                "end others, or raise the limits (ulimit -u, ulimit -n, pids.max)",
            ) from error
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._reading = reading
            yield from in_order(self._spool, lambda position: self._wait_for(position, listed))
            listed(self._spool.keys)
        finally:  # a second interrupt may break this off: the child ends with this process at the latest
            os.kill(child, signal.SIGKILL)
            os.close(reading)
            os.waitpid(child, 0)

    def _fork(self) -> tuple[int, int]:
        """The child and the end of the pipe over which it tells. Raises OSError."""
        reading, writing = os.pipe()
        parent = os.getpid()
        try:
            child = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if child == 0:
            os.close(reading)
            self._list_and_exit(writing, parent)
        os.close(writing)
        return child, reading

    def _wait_for(self, position: bytes, listed: Listed) -> Record:
        """The span that begins at ``position``, once the child has told of it. Raises OssmountError."""
        wait = 0.0  # what has been told already is taken even where it is not needed now
        while True:
            self._hear(wait)
            listed(self._spool.keys)
            found = self._spool.find(position)
            if found is not None:
                return found
            if self._finished:  # nothing more can come: this span would be waited for without end
                where = f"{self._root_uri}/{self._prefix}"
                raise OssmountError(
                    f"internal error: the listing of {where} has a hole behind {position!r}",
                    "try again, and report it if it stays",
                )
            wait = TELL_SECONDS

    def _hear(self, seconds: float) -> None:
        """Takes in what the child has said, waiting for it so long at most."""
        if self._finished or not select.select([self._reading], [], [], seconds)[0]:
            return
        data = os.read(self._reading, _PIPE_BYTES)
        if not data:
            raise StoreUnavailable("the process that lists has died", "see the system's log; try again")
        self._unpacker.feed(data)
        for message in self._unpacker:
            self._take(message)

    def _take(self, message: Any) -> None:
        if message is None:
            self._finished = True
        elif isinstance(message, list):
            after, upto, offset, length, keys = message
            self._spool.note(Record(Span(after, upto), offset, length, keys))
        elif "errno" in message:
            raise OSError(message["errno"], message["message"])
        else:
            raise decode_error(message)

    def _list_and_exit(self, writing: int, parent: int) -> NoReturn:
        """The child. Whatever happens, nothing of the parent's is run or flushed."""
        status = 1
        try:
            die_with_parent(parent)  # it may hang in a request, and would hold the terminal
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, and ends this process
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _tell(writing, self._outcome(writing))
            status = 0
        finally:
            os._exit(status)

    def _outcome(self, writing: int) -> Any:
        """Lists; gives the last message."""
        try:
            store = self._open_store(self._root_uri)
            listing = ParallelListing(store, self._prefix, self._spool, self._concurrency)
            self._open_store.on_throttled = listing.slow_down
            listing.run(lambda record: _tell(writing, [*record.span, *record[1:]]))
        except OssmountError as error:
            return encode_error(error)
        except OSError as error:
            return {"errno": error.errno or 0, "message": error.strerror or str(error)}
        except Exception as error:
            return encode_error(OssmountError(f"internal error: {type(error).__name__}: {error}"))
        return None


def _tell(writing: int, message: Any) -> None:
    data = memoryview(msgpack.packb(message, unicode_errors="surrogateescape"))
    while data:
        data = data[os.write(writing, data) :]
