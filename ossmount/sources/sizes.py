"""Sizes and ETags that a list does not tell, fetched the cheaper way: LIST or HEAD, many at once.

What may live here: the decision between the two (pure) and the threads that carry it out. Who may touch
it: whoever has measured something about listing costs.

Keys are sorted and cut into runs. A LIST that starts right before a wanted key always settles at least
that key, and every wanted key that the rest of the page holds; then the next one starts right before the
next wanted key. So no directory structure has to be guessed, and how dense the wanted keys lie is known
after one page: where a page settles fewer than LIST_COST keys, the rest of the run is asked for by HEAD.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice

from ossmount.errors import AccessDenied, ObjectMissing, Unlistable
from ossmount.model import ListPage, ObjectId, ObjectInfo
from ossmount.protocols import ObjectStore
from ossmount.sources.naming import common_directory
from ossmount.uris import BUCKET_SCHEMES

LIST_COST = 10
"""One LIST is worth so many HEADs: S3 bills it as 12.5, and it takes about five times as long."""

RUN_KEYS = 1000
"""Wanted keys per run: where all keys are wanted, a run is one page, and the runs go in parallel."""

_HEADS_PER_TASK = 8
"""HEADs that one task makes one after another, so that tasks stay few and progress stays smooth."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for: runs of sorted keys to be listed, and keys for HEAD."""

    runs: Sequence[Sequence[str]]
    heads: Sequence[str]


def plan_requests(keys: Sequence[str], *, listable: bool) -> Plan:
    """The plan for sorted, distinct ``keys`` of one store."""
    if not listable:
        return Plan([], keys)
    runs = [keys[i : i + RUN_KEYS] for i in range(0, len(keys), RUN_KEYS)]
    if runs and len(runs[-1]) <= LIST_COST:
        return Plan(runs[:-1], runs[-1])
    return Plan(runs, [])


def goes_on_listing(settled: int) -> bool:
    """Whether a run is listed further after a page that settled so many wanted keys."""
    return settled >= LIST_COST


def is_listable(root: str) -> bool:
    """Buckets are listed; ``stat`` is cheaper than any listing of files, and HTTP has no listing."""
    return root.partition("://")[0] in BUCKET_SCHEMES


def just_before(key: str) -> str:
    """A key less than ``key``, and in practice with nothing between the two.

    Correct for every key; only for ordinary characters also close.
    """
    head, last = key[:-1], key[-1:]
    # Control characters are unwelcome in listing requests, other alphabets have no simple predecessor.
    if "!" < last <= "~":
        return head + chr(ord(last) - 1) + "~~~~"
    return head


def list_run(store: ObjectStore, keys: Sequence[str]) -> tuple[list[ObjectInfo], Sequence[str]]:
    """What LIST settles of the sorted ``keys``: the objects found, and the keys left for HEAD.

    Keys that are in neither do not exist.
    """
    found: list[ObjectInfo] = []
    prefix = common_directory(keys[0], keys[-1])
    position = 0
    while position < len(keys):
        page = _first_page(store, prefix, just_before(keys[position]))
        if page is None:
            break
        end = bisect_right(keys, page.keys[-1], position)
        wanted = frozenset(keys[position:end])
        found += [info for info in page.objects() if info.key in wanted]
        settled, position = end - position, end
        if not goes_on_listing(settled):
            return found, keys[position:]
    return found, []


def _first_page(store: ObjectStore, prefix: str, after: str) -> ListPage | None:
    # A start that lies before the prefix says nothing, and some servers answer it wrongly.
    pages = store.list(prefix, after if after > prefix else "")
    return next((page for page in pages if len(page)), None)


def head_all(store: ObjectStore, keys: Sequence[str]) -> list[ObjectInfo]:
    """The objects of ``keys`` that exist."""
    found = []
    for key in keys:
        try:
            found.append(store.head(key)._replace(key=key))
        except ObjectMissing:
            continue
    return found


Settled = Callable[[int], None]
"""Told how many keys have just been settled."""


@dataclass(slots=True)
class SizeFetcher:
    """Carries plans out with ``concurrency`` threads. Close it, also after an error."""

    concurrency: int
    _pool: ThreadPoolExecutor = field(init=False)
    _unlistable: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(max(1, self.concurrency), thread_name_prefix="sizes")

    def close(self) -> None:
        """Drops what has not begun and waits for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def fetch(self, store: ObjectStore, keys: Sequence[str], settled: Settled) -> dict[str, ObjectInfo]:
        """The objects of the sorted, distinct ``keys`` that exist, by key. Raises StoreError."""
        listable = is_listable(store.uri) and store.uri not in self._unlistable
        plan = plan_requests(keys, listable=listable)
        found: list[ObjectInfo] = []
        heads = list(plan.heads)

        def listing(run: Sequence[str]) -> Callable[[], int]:
            def task() -> int:
                infos, left = self._list_or_leave(store, run)
                found.extend(infos)
                heads.extend(left)
                return len(run) - len(left)

            return task

        def heading(some: Sequence[str]) -> Callable[[], int]:
            def task() -> int:
                found.extend(head_all(store, some))
                return len(some)

            return task

        self._run((listing(run) for run in plan.runs), settled)
        chunks = (heads[i : i + _HEADS_PER_TASK] for i in range(0, len(heads), _HEADS_PER_TASK))
        self._run((heading(chunk) for chunk in chunks), settled)
        return {info.key: info for info in found}

    def read(self, store: ObjectStore, infos: Sequence[ObjectInfo]) -> dict[str, bytes]:
        """The whole contents of small objects, by key. Raises StoreError."""
        contents: dict[str, bytes] = {}

        def reading(some: Sequence[ObjectInfo]) -> Callable[[], int]:
            def task() -> int:
                for info in some:
                    target = ObjectId(store.uri, info.key, info.etag, info.size)
                    contents[info.key] = store.get_range(target, 0, info.size)
                return len(some)

            return task

        chunks = (infos[i : i + _HEADS_PER_TASK] for i in range(0, len(infos), _HEADS_PER_TASK))
        self._run((reading(chunk) for chunk in chunks), lambda _: None)
        return contents

    def _list_or_leave(
        self, store: ObjectStore, run: Sequence[str]
    ) -> tuple[list[ObjectInfo], Sequence[str]]:
        """Credentials that may read but not list are common; HEAD serves them, and stores without it."""
        if store.uri in self._unlistable:
            return [], run
        try:
            return list_run(store, run)
        except (AccessDenied, Unlistable):
            self._unlistable.add(store.uri)
            return [], run

    def _run(self, tasks: Iterator[Callable[[], int]], settled: Settled) -> None:
        """All tasks, with only so many submitted that an error soon ends the rest."""
        waiting: set[Future[int]] = set()
        while True:
            waiting |= {
                self._pool.submit(task) for task in islice(tasks, 2 * self.concurrency - len(waiting))
            }
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            settled(sum(future.result() for future in done))
