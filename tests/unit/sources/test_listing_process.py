"""A listing in a forked process: same keys, same errors, nothing left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.errors import AccessDenied, OssmountError, StoreUnavailable, Throttled
from ossmount.protocols import ObjectStore
from ossmount.sources import PrefixSource
from ossmount.sources.listing_plan import key_order
from ossmount.sources.listing_process import ListingProcess
from ossmount.sources.listing_spool import Record, Spool
from tests.support.memory_store import MemoryStore, fail_first, opener
from tests.support.mounting import is_running, wait_for

KEYS = st.sets(st.text(alphabet="ab/.\n%é\U0001f600\udcff", min_size=1, max_size=7), max_size=60)
NUMBERED = {f"d{i % 3}/{i:04}": b"" for i in range(900)}


class Stores:
    """As a StorePool: opens in the child, and takes a callback."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.opened_in: list[int] = []
        self.on_throttled: Callable[[], None] = lambda: None

    def __call__(self, root_uri: str) -> ObjectStore:
        self.opened_in.append(os.getpid())
        assert root_uri == self.store.uri
        return self.store


def listed(store: ObjectStore, spool: Spool, prefix: str = "") -> list[str]:
    stores = Stores(store)
    pages = ListingProcess(stores, store.uri, prefix, spool, 4).pages(lambda _: None)
    found = [key for page in pages for key in page.keys]
    assert stores.opened_in == []  # no store of this process's
    return found


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() - before == set()


def children() -> set[str]:
    """This process's children, those of other tests' servers included."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


@settings(max_examples=15, deadline=None)
@given(KEYS, st.integers(1, 4), st.sampled_from(["", "a"]))
def test_like_a_sorted_list(keys: set[str], page_size: int, prefix: str) -> None:
    store = MemoryStore("s3://b", dict.fromkeys(keys, b""), page_size=page_size)
    spool = Spool(None, "s3://b/")
    assert listed(store, spool, prefix) == sorted((k for k in keys if k.startswith(prefix)), key=key_order)
    spool.remove()


def test_rows_stay_together_and_progress_reaches_the_end() -> None:
    store = MemoryStore("s3://b", {f"{i:03}": b"x" * i for i in range(200)}, page_size=7)
    steps: list[int] = []
    pages = ListingProcess(Stores(store), store.uri, "", Spool(None, "x"), 8).pages(steps.append)
    assert [info for page in pages for info in page.objects()] == [store.head(f"{i:03}") for i in range(200)]
    assert steps == sorted(steps)
    assert steps[-1] == 200


@pytest.mark.parametrize("error", [AccessDenied("no", "ask"), StoreUnavailable("gone"), Throttled("slow")])
def test_errors_of_the_store_pass(error: OssmountError) -> None:
    store = MemoryStore("s3://b", NUMBERED, fault=fail_first(10**9, error))
    with pytest.raises(type(error)) as caught:
        listed(store, Spool(None, "x"))
    assert type(caught.value) is type(error)
    assert (caught.value.message, caught.value.remedy) == (error.message, error.remedy)


def test_errors_of_the_system_pass() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught:
        listed(MemoryStore("s3://b", NUMBERED, fault=fail_first(1, full)), Spool(None, "x"))  # type: ignore[arg-type]
    assert caught.value.errno == errno.ENOSPC


def test_a_mistake_in_the_child_is_told() -> None:
    wrong = ZeroDivisionError("division by zero")
    with pytest.raises(OssmountError, match="ZeroDivisionError: division by zero"):
        listed(MemoryStore("s3://b", NUMBERED, fault=fail_first(1, wrong)), Spool(None, "x"))  # type: ignore[arg-type]


def test_a_child_that_is_killed_is_told_and_gone_on_from(tmp_path: Path) -> None:
    store = MemoryStore("s3://b", NUMBERED, page_size=10)

    def die(verb: str, key: str) -> None:
        del verb, key
        if store.requests["LIST"] > 60:
            os.kill(os.getpid(), signal.SIGKILL)

    store.fault = die
    first = Spool(tmp_path / "spool", "s3://b/")
    with pytest.raises(StoreUnavailable, match="died"):
        listed(store, first)
    first.close()
    again = Spool(tmp_path / "spool", "s3://b/")
    assert again.keys > 200
    store.fault = None
    assert listed(store, again) == sorted(NUMBERED)
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_span_that_nobody_listed_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child says that it has finished, yet one of its spans has not arrived."""
    monkeypatch.setattr(Spool, "note", _forgetting(Spool.note))
    store = MemoryStore("s3://b", NUMBERED, page_size=10)
    with pytest.raises(OssmountError, match=r"hole behind b'd1/.*; try again"):
        listed(store, Spool(None, "s3://b/"))


def _forgetting(note: Callable[[Spool, Record], None]) -> Callable[[Spool, Record], None]:
    def first_of_d1_is_lost(spool: Spool, record: Record) -> None:
        if not record.span.after < b"d1/0400" <= (record.span.upto or b"z"):
            note(spool, record)

    return first_of_d1_is_lost


LISTS_FOREVER = """
import os, sys, time
from pathlib import Path
from ossmount.sources.listing_process import ListingProcess
from ossmount.sources.listing_spool import Record, Spool
from tests.support.memory_store import MemoryStore

def hang(verb: str, key: str) -> None:
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(60)

class Stores:
    def __call__(self, root_uri):
        return MemoryStore("s3://b", {"x": b""}, fault=hang)

next(ListingProcess(Stores(), "s3://b", "", Spool(None, "x"), 4).pages(lambda _: None))
"""


def test_a_child_in_a_request_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    """So it does after a second Ctrl-C, which breaks off what the first began."""
    command = [sys.executable, "-c", LISTS_FOREVER, str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE) as parent:
        wait_for(lambda: any(tmp_path.iterdir()), 30)
        child = int(next(tmp_path.iterdir()).name)
        assert is_running(child)
        parent.kill()
        wait_for(lambda: not is_running(child))
        assert parent.communicate(timeout=10) == (b"", None)


def test_a_reader_that_stops_ends_the_child() -> None:
    store = MemoryStore("s3://b", NUMBERED, page_size=1)
    before = threading.active_count()
    pages = ListingProcess(Stores(store), store.uri, "", Spool(None, "x"), 4).pages(lambda _: None)
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_what_is_repeated_in_front_of_the_listing_slows_it_down(tmp_path: Path) -> None:
    """The store repeats throttled requests itself, as Retrying does; the plan hears of them all the same."""
    store = MemoryStore("s3://b", {f"{i:05}": b"" for i in range(4000)}, page_size=10)
    stores, lock, under_way, latency = Stores(store), threading.Lock(), [0], threading.Event()
    log = tmp_path / "log"

    def fault(verb: str, key: str) -> None:
        del verb, key
        with lock:
            under_way[0] += 1
            if under_way[0] > 3:
                stores.on_throttled()
            with log.open("a") as file:
                file.write(f"{under_way[0]}\n")
        latency.wait(0.001)
        with lock:
            under_way[0] -= 1

    store.fault = fault
    pages = ListingProcess(stores, store.uri, "", Spool(None, "x"), 16).pages(lambda _: None)
    assert [key for page in pages for key in page.keys] == [f"{i:05}" for i in range(4000)]
    at_once = [int(line) for line in log.read_text().splitlines()]
    assert max(at_once) > 3
    assert sum(at_once) / len(at_once) < 8


def test_a_prefix_through_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossmount.sources.prefix.may_fork", lambda: True)
    store = MemoryStore("s3://b", {"t/": b"", "t/a": b"1", "t/b//c": b"22"})
    source = PrefixSource("s3://b", "t", opener(), spool=tmp_path / ".x", lister=Stores(store))
    entries = [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]
    assert [entry.path for entry in entries] == [b"a", b"b//c"]
    assert list(tmp_path.iterdir()) == []
    assert store.requests["LIST"] == 0  # of this process


def test_a_process_with_threads_lists_itself() -> None:
    """A fork would lose them, and native clients that live on them."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    store = MemoryStore("s3://b", {"t/a": b"1"})
    stores = Stores(store)
    source = PrefixSource("s3://b", "t", lambda _: store, lister=stores)
    assert [entry.path for batch in source.batches(lambda _: None) for entry in batch.entries()] == [b"a"]
    done.set()
    thread.join()
    assert store.requests["LIST"] > 0
    assert stores.opened_in == []


def test_where_no_process_can_be_forked_an_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", refuse)
    files = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OssmountError, match=r"no process that lists can be started: .*; .*ulimit -u"):
        listed(MemoryStore("s3://b", NUMBERED), Spool(tmp_path / "spool", "s3://b/"))
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    assert set(Path("/proc/self/fd").iterdir()) == files


def test_a_process_of_one_thread_may_fork() -> None:
    asks = "import sys; from ossmount.sources.listing_process import may_fork; sys.exit(not may_fork())"
    assert subprocess.run([sys.executable, "-c", asks], check=False, timeout=60).returncode == 0


def test_without_locks_nothing_is_kept_and_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    store = MemoryStore("s3://b", NUMBERED)
    assert listed(store, Spool(tmp_path / "spool", "s3://b/"))
    assert not list(tmp_path.glob("spool*"))
