"""LIST of everything below a prefix, many ranges at once, in order.

What may live here: the threads that list; what they list is decided in
:mod:`ossmount.sources.listing_plan`. Threads exist in sources only here and in
:mod:`ossmount.sources.sizes`. Who may touch it: whoever has measured a listing before and after.

Threads append what they find to a :class:`ossmount.sources.listing_spool.Spool`; the reader takes it from
there in the order of the keys. So memory holds only the pages in flight, however far ahead a range is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

from ossmount.errors import Throttled
from ossmount.model import ListPage
from ossmount.protocols import ObjectStore
from ossmount.sources.listing_plan import Explore, KeyRange, ListingPlan, Span, key_order
from ossmount.sources.listing_spool import Record, Spool, pack_page

LIST_CONCURRENCY = 32
"""Ranges at once: with 1,000 keys a page and 100 ms a request, 320,000 keys a second."""

MAX_THROTTLED = 20
"""Throttled answers in a row, each after the store's own retries, after which a listing gives up."""

_DELIMITER = "/"
TELL_SECONDS = 0.25
"""How often a waiting reader tells how far the listing is."""

_NOTHING = ListPage((), (), (), ())

Listed = Callable[[int], None]
"""Told how many keys have been listed in all, by the thread that reads."""

Settled = Callable[[Record], None]
"""Told of each span that stands in the spool, by the thread that listed it, one at a time."""


def in_order(spool: Spool, wait_for: Callable[[bytes], Record]) -> Iterator[ListPage]:
    """Pages in the order of the keys, none empty; ``wait_for`` gives the span that begins at a key."""
    position: bytes | None = b""
    while position is not None:
        page, position = spool.read(wait_for(position))
        if len(page):
            yield page


class ParallelListing:
    """One listing: ``pages`` or ``run`` may be called once. The spool belongs to the caller."""

    def __init__(
        self, store: ObjectStore, prefix: str, spool: Spool, concurrency: int = LIST_CONCURRENCY
    ) -> None:
        self._store, self._prefix, self._spool = store, prefix, spool
        self._plan = ListingPlan(key_order(prefix), max(1, concurrency), spool.spans())
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._work_there = threading.Condition(self._lock)
        self._wanted: bytes | None = b""
        self._failure: BaseException | None = None
        self._stopped = False
        self._throttled = 0
        self._settled: Settled = lambda record: None

    def __repr__(self) -> str:
        return f"ParallelListing({self._store.uri}/{self._prefix}, {self._spool!r})"

    def pages(self, listed: Listed) -> Iterator[ListPage]:
        """Pages in the order of the keys, none empty. Raises StoreError as the store's LIST does."""
        threads = self._start()
        try:
            yield from in_order(self._spool, lambda position: self._wait_for(position, listed))
        finally:
            with self._lock:
                self._stopped = True
                self._work_there.notify_all()
            for thread in threads:
                thread.join()

    def run(self, settled: Settled) -> None:
        """Lists everything into the spool, for whoever reads it elsewhere. Raises StoreError as LIST does."""
        self._settled = settled
        for thread in self._start():
            thread.join()
        if self._failure is not None:
            raise self._failure

    def slow_down(self) -> None:
        """A store asked for fewer requests and was asked again by what stands before it; from any thread."""
        with self._lock:
            self._plan.complained()

    def _start(self) -> list[threading.Thread]:
        threads = [
            threading.Thread(target=self._work, name=f"listing-{i}", daemon=True)
            for i in range(self._plan.concurrency)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _wait_for(self, position: bytes, listed: Listed) -> Record:
        """The span that begins at ``position``, once it is settled."""
        while True:
            listed(self._spool.keys)
            with self._lock:
                if self._failure is not None:
                    raise self._failure
                found = self._spool.find(position)
                if found is not None:
                    return found
                self._wanted = position
                self._arrived.wait(TELL_SECONDS)

    def _work(self) -> None:
        """A thread: takes work until there is none."""
        while (task := self._next()) is not None:
            try:
                self._explore(task) if isinstance(task, Explore) else self._list(task)
            except Throttled as error:
                self._put_back(task, error)
            except BaseException as error:  # the reader raises it
                self._fail(error)

    def _next(self) -> KeyRange | Explore | None:
        with self._lock:
            while not self._stopped and self._failure is None and not self._plan.finished:
                task = self._plan.take()
                if task is not None:
                    self._work_there.notify()  # one wakes the next, so nobody wakes in vain for long
                    return task
                self._work_there.wait()
            self._work_there.notify_all()
            return None

    def _list(self, task: KeyRange) -> None:
        with closing(_Pages(self._store.list(self._prefix, _text(task.cursor)))) as pages:
            for page in pages:
                with self._lock:
                    step = self._plan.page(task, page.keys)
                    stop = step.finished or self._stopped or self._failure is not None
                    if not stop and self._plan.yields(task):
                        self._plan.put_back(task, throttled=False)
                        stop = True
                    self._throttled = 0
                    self._work_there.notify()
                self._settle(step.span, _head(page, step.own))
                if stop:
                    return
        with self._lock:
            span = self._plan.ended(task)
            self._work_there.notify()
        self._settle(span, _NOTHING)

    def _settle(self, span: Span, page: ListPage) -> None:
        if span.upto == span.after:
            return
        payload = pack_page(span, page)
        with self._lock:
            self._settled(self._spool.add(span, payload, len(page)))
            if span.after == self._wanted:
                self._arrived.notify()

    def _explore(self, task: Explore) -> None:
        directory = _text(task.directory)
        after = _text(task.after) if task.after > task.directory else ""
        with closing(_Pages(self._store.list(directory, after, _DELIMITER))) as pages:
            page = next(pages, _NOTHING)  # a page of directories alone has no length, so it is false
        with self._lock:
            self._plan.explored(task, page.keys, page.prefixes)
            self._work_there.notify()

    def _put_back(self, task: KeyRange | Explore, error: Throttled) -> None:
        with self._lock:
            self._plan.put_back(task, throttled=True)
            self._throttled += 1
            self._work_there.notify()
        if self._throttled > MAX_THROTTLED:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
            self._arrived.notify()
            self._work_there.notify_all()


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _head(page: ListPage, count: int) -> ListPage:
    if count == len(page):
        return page
    return ListPage(page.keys[:count], page.sizes[:count], page.etags[:count], page.mtimes_ns[:count])


class _Pages:
    """Pages of a store whose listing is ended when it is not read to its end."""

    def __init__(self, pages: Iterator[ListPage]) -> None:
        self._pages = pages

    def __iter__(self) -> Iterator[ListPage]:
        return self._pages

    def __next__(self) -> ListPage:
        return next(self._pages)

    def close(self) -> None:
        """Ends a generator; other iterators have nothing to end."""
        close = getattr(self._pages, "close", None)
        if close is not None:
            close()
