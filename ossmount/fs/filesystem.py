"""The file system: an index to look things up in, a fetcher to read through.

Holds no state between requests that an answer depends on: any process may answer any request. What it
remembers (which remainders were handed out) saves work only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Protocol

from ossmount.errors import NameTooLong, NoSuchEntry, StoreError
from ossmount.fs.incidents import Incidents
from ossmount.fs.xattrs import xattr_of, xattrs_of
from ossmount.histogram import Histogram
from ossmount.model import NAME_MAX, Attributes, BlockId, Child, Extent, IndexInfo, Kind, Listing
from ossmount.protocols import Index

REMEMBERED_REMAINDERS = 1024
"""Inodes whose remainder was handed out lately: a second READ of the same open file pushes nothing."""


ALL_AGAIN = 512
"""Different files that are opened again in a row, with no new one between, after which opens say nothing: if
one in a hundred were new, one would have been among them."""


class Reading(Protocol):
    """What the file system needs of a fetcher."""

    def read_nowait(self, extent: Extent, offset: int, size: int) -> bytes | memoryview | None:
        """As :meth:`ossmount.readahead.fetcher.Fetcher.read_nowait`."""
        ...

    async def read(self, extent: Extent, offset: int, size: int) -> bytes:
        """As :meth:`ossmount.readahead.fetcher.Fetcher.read`."""
        ...

    def at_hand(self, block: BlockId) -> bytes | None:
        """As :meth:`ossmount.readahead.fetcher.Fetcher.at_hand`."""
        ...

    def caches(self, extent: Extent) -> bool:
        """As :meth:`ossmount.readahead.fetcher.Fetcher.caches`."""
        ...


class Observing(Protocol):
    """Who is told what programs do. Never waits, never raises: losing an observation costs time only."""

    def opened(self, ino: int, *, waits: bool) -> None:
        """A program opened the file; ``waits``: its open is answered when the file has arrived."""
        ...

    def reopened(self, ino: int) -> bool:
        """A program opened the file, which had been opened before with all its bytes in place.

        Returns True where nobody has anything to plan from that.
        """
        ...

    def unasked(self) -> None:
        """A READ comes of a kernel that does not tell opens: some were before it, nobody knows how many."""
        ...

    def read(self, ino: int, offset: int, size: int, *, cached: bool) -> None:
        """A READ reached this process; ``cached``: of a small file, which needs no request to the store."""
        ...

    def looked_up(self, ino: int) -> None:
        """The kernel asked for the file's name: it does not know, or has forgotten, it."""
        ...

    def listed(self, ino: int) -> None:
        """A program began to list the directory."""
        ...


Arrival = Callable[[int, int], Callable[[], Awaitable[None]] | None]
"""Given inode number and size of a file, what to await until a prefetcher has brought it, if one will."""


@dataclass(slots=True)
class Served:
    """Requests of the kernel that were answered, refused ones included."""

    lookups: int = 0
    getattrs: int = 0
    readdirs: int = 0
    opens: int = 0
    reads: int = 0
    first_reads: int = 0
    """READs from offset 0: an open without one was served from the page cache, or reads elsewhere."""
    opens_unasked: int = 0
    """1 in workers that know that the kernel opens files without asking."""
    getxattrs: int = 0
    read_bytes: int = 0
    """Bytes handed out."""


class FileSystem:
    """One generation of one index, as a worker serves it.

    ``push`` False turns remainders off. ``arrival`` tells what an open should wait for, ``reopens`` of which
    inodes of this generation that has been asked before, and there is nothing.
    """

    def __init__(
        self,
        index: Index,
        fetcher: Reading,
        *,
        observer: Observing | None = None,
        incidents: Incidents | None = None,
        push: bool = True,
        arrival: Arrival = lambda ino, size: None,
        reopens: Callable[[int], bool] = lambda ino: False,
    ) -> None:
        self._index = index
        self._fetcher = fetcher
        self._observer = observer
        self._incidents = incidents or Incidents()
        self._push = push
        self._arrival = arrival
        self._reopens = reopens
        self._rest: tuple[int, int, bytes] | None = None
        self._again: set[int] = set()
        """Files opened again since one was opened for the first time; ``ALL_AGAIN`` of them say all."""
        self._handed_out: OrderedDict[int, None] = OrderedDict()
        self._info = index.info()
        self._counts = Served()
        self._seconds = Histogram()

    def __repr__(self) -> str:
        return f"FileSystem({self._info.source!r}, generation {self._info.generation})"

    def statistics(self) -> dict[str, int]:
        """Failed reads by error."""
        return self._incidents.statistics()

    def served(self) -> dict[str, Any]:
        """Requests answered, by kind (see :class:`Served`), and ``read_latency`` (:class:`Histogram`)."""
        return {**asdict(self._counts), "read_latency": self._seconds.statistics()}

    def lookup(self, parent: int, name: bytes) -> Attributes:
        """The child of that name. Raises NoSuchEntry, NotADirectory, NameTooLong."""
        self._counts.lookups += 1
        if len(name) > NAME_MAX:  # the kernel leaves this to us
            raise NameTooLong(f"a name of {len(name)} bytes in inode {parent}")
        found = self._index.lookup(parent, name)
        if found is None:
            raise NoSuchEntry(f"no {name!r} in inode {parent}")
        if self._observer is not None and found.kind is Kind.FILE:
            self._observer.looked_up(found.ino)
        return found

    def attributes(self, ino: int) -> Attributes:
        """Raises NoSuchEntry."""
        self._counts.getattrs += 1
        return self._index.attributes(ino)

    def children(self, ino: int, after: int = 0) -> Iterator[Sequence[Child]]:
        """As ``Index.children``."""
        return self._index.children(ino, after)

    def listed(self, ino: int) -> None:
        """A program begins to list the directory."""
        if self._observer is not None:
            self._observer.listed(ino)

    def listing(self, ino: int, after: int = 0) -> Iterator[Listing]:
        """The children behind ``after`` in columns. Raises NoSuchEntry, NotADirectory, once iterated."""
        self._counts.readdirs += 1
        return self._index.listing(ino, after)

    def opened(self, ino: int) -> Callable[[], Awaitable[None]] | None:
        """To be told of every open: with pages in the kernel it is the only sign of a reader.

        Returns what to await before the open is answered, if there is something. Raises StaleInode.
        """
        self._counts.opens += 1
        if self._reopens(ino):
            if self._observer is not None and self._observer.reopened(ino) and self.opens_matter:
                self._again.add(ino)
            return None
        self._again.clear()
        found = self._index.attributes(ino)  # of a generation that is gone: the kernel looks up the name anew
        arrival = self._arrival(ino, found.size)  # first: whom the observer tells may look for a mark
        if self._observer is not None:
            self._observer.opened(ino, waits=arrival is not None)
        return arrival

    @property
    def opens_matter(self) -> bool:
        """False once programs only open again what has come, and prefetchers have nothing to plan."""
        return len(self._again) < ALL_AGAIN

    def opens_end(self) -> None:
        """The kernel does not ask any more before it opens files."""
        self._counts.opens_unasked = 1

    def read_unasked(self) -> None:
        """A READ begins of a file that the kernel opened without asking."""
        self._counts.opens_unasked = 1
        if self._observer is not None:
            self._observer.unasked()

    async def read(self, ino: int, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file, b"" behind it.

        Raises NoSuchEntry, IsADirectory, StoreError (ObjectChanged where the object has another version
        than the indexed one: bytes of two versions never mix).
        """
        began, extent = perf_counter(), self._index.extent(ino)
        self._note_read(ino, offset, size, cached=self._fetcher.caches(extent))
        try:
            data = await self._fetcher.read(extent, offset, size)
        except StoreError as error:
            self._incidents.report(extent.object, error)
            raise
        finally:
            self._seconds.observe(perf_counter() - began)
        self._handed(ino, extent, offset, data)
        return data

    def read_nowait(self, ino: int, offset: int, size: int) -> bytes | memoryview | None:
        """As :meth:`read`, where nothing has to be waited for that takes long; else None, uncounted.

        The bytes are there until the next call.
        """
        began, extent = perf_counter(), self._index.extent(ino)
        data = self._fetcher.read_nowait(extent, offset, size)
        if data is not None:
            self._note_read(ino, offset, size, cached=True)
            self._handed(ino, extent, offset, data)
            self._seconds.observe(perf_counter() - began)
        return data

    def _note_read(self, ino: int, offset: int, size: int, *, cached: bool) -> None:
        if self._observer is not None:
            self._observer.read(ino, offset, size, cached=cached)
        self._counts.reads += 1
        self._counts.first_reads += offset == 0

    def _handed(self, ino: int, extent: Extent, offset: int, data: bytes | memoryview) -> None:
        self._counts.read_bytes += len(data)
        if self._push and len(data) < extent.length:
            self._set_aside(ino, extent, offset + len(data))

    def _set_aside(self, ino: int, extent: Extent, end: int) -> None:
        """Remembers what of a small file lies behind the answer, if the whole is at hand."""
        self._rest = None
        if ino in self._handed_out or end >= extent.length:
            return
        whole = self._fetcher.at_hand(extent.block)
        if whole is not None:
            self._rest = (ino, end, whole[end:])

    def remainder(self, ino: int) -> tuple[int, bytes] | None:
        """What was fetched with the last read of ``ino`` and not handed out: (offset, bytes), once.

        Only right after that read, before anything else is awaited. For the kernel's page cache.
        """
        if self._rest is None or self._rest[0] != ino:
            return None
        _, offset, data = self._rest
        self._rest = None
        self._handed_out[ino] = None
        if len(self._handed_out) > REMEMBERED_REMAINDERS:
            self._handed_out.popitem(last=False)
        return offset, data

    def xattr(self, ino: int, name: bytes) -> bytes:
        """Raises NoSuchAttribute, NoSuchEntry."""
        self._counts.getxattrs += 1
        return xattr_of(self._index, ino, name)

    def xattr_names(self, ino: int) -> Sequence[bytes]:
        """The names of the extended attributes. Raises NoSuchEntry."""
        return list(xattrs_of(self._index, ino))

    def totals(self) -> IndexInfo:
        """Files, directories and bytes of the index, for ``statfs``."""
        return self._info
