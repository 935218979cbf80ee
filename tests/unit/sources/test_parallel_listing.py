"""Listing with threads against a store of small pages: nothing lost, nothing twice, order, resumption."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.errors import AccessDenied, StoreUnavailable, Throttled
from ossmount.sources.listing_plan import Span, key_order
from ossmount.sources.listing_spool import Spool, pack_page
from ossmount.sources.parallel_listing import MAX_THROTTLED, ParallelListing
from tests.support.memory_store import MemoryStore, fail_first

KEYS = st.sets(st.text(alphabet="ab/.\n%é\U0001f600", min_size=1, max_size=7), max_size=80)
NUMBERED = {f"d{i % 3}/{i:04}": b"" for i in range(900)}


def listed(store: MemoryStore, spool: Spool, prefix: str = "", concurrency: int = 8) -> list[str]:
    pages = ParallelListing(store, prefix, spool, concurrency).pages(lambda _: None)
    return [key for page in pages for key in page.keys]


@settings(max_examples=60, deadline=None)
@given(KEYS, st.integers(1, 4), st.sampled_from(["", "a", "a/"]), st.integers(1, 8))
def test_like_a_sorted_list(keys: set[str], page_size: int, prefix: str, concurrency: int) -> None:
    store = MemoryStore("s3://b", dict.fromkeys(keys, b""), page_size=page_size)
    spool = Spool(None, "s3://b/")
    expected = sorted((key for key in keys if key.startswith(prefix)), key=key_order)
    assert listed(store, spool, prefix, concurrency) == expected
    spool.remove()


def test_what_another_source_has_left_does_not_come_back_with_the_next_start(tmp_path: Path) -> None:
    """Nor where the first start of the new one ended at once, and all records would lie as before."""
    old = Spool(tmp_path / "listing", "s3://a/", lambda: 1000.0)
    page = next(MemoryStore("s3://a", {"theirs": b"1"}).list(""))
    old.add(Span(b"", None), pack_page(Span(b"", None), page), 1)
    old.close()
    assert len(Spool(tmp_path / "listing", "s3://a/", lambda: 1000.0).spans()) == 1
    killed = Spool(tmp_path / "listing", "s3://b/", lambda: 1000.0)
    killed._file.close()
    new = Spool(tmp_path / "listing", "s3://b/", lambda: 1000.0)
    assert new.spans() == []
    new.remove()


def test_two_that_list_the_same_need_no_other_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # a read-only root has no such place
    first = Spool(tmp_path / "listing", "s3://b/")
    second = Spool(tmp_path / "listing", "s3://b/")
    store = MemoryStore("s3://b", dict.fromkeys(("a", "b"), b"1"))
    assert listed(store, second) == listed(store, first) == ["a", "b"]
    first.remove()
    second.remove()
    assert list(tmp_path.iterdir()) == []


def test_rows_stay_together() -> None:
    store = MemoryStore("s3://b", {f"{i:03}": b"x" * i for i in range(200)}, page_size=7)
    pages = ParallelListing(store, "", Spool(None, "x"), 8).pages(lambda _: None)
    rows = [info for page in pages for info in page.objects()]
    assert rows == [store.head(f"{i:03}") for i in range(200)]


@pytest.mark.parametrize("name", ["{:05}", "d{:03}/{:05}", "one/{:05}"])
def test_several_ranges_are_listed_at_once(name: str) -> None:
    keys = {name.format(*([i // 20, i] if name.count("{") > 1 else [i])): b"" for i in range(3000)}
    store = MemoryStore("s3://b", keys, page_size=10)
    lock, latency, under_way, most = threading.Lock(), threading.Event(), [0], [0]

    def fault(verb: str, key: str) -> None:
        # A request takes time, or a single thread would be through before another has woken.
        del verb, key
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        latency.wait(0.001)
        with lock:
            under_way[0] -= 1

    store.fault = fault
    assert listed(store, Spool(None, "x")) == sorted(keys)
    assert 4 <= most[0] <= 8
    assert store.requests["LIST"] < 2 * 300


def test_throttling_slows_down_and_goes_on() -> None:
    store = MemoryStore("s3://b", NUMBERED, page_size=10, fault=fail_first(12, Throttled("slow down")))
    assert listed(store, Spool(None, "x")) == sorted(NUMBERED)


def test_endless_throttling_is_an_error() -> None:
    store = MemoryStore("s3://b", NUMBERED, fault=fail_first(10**9, Throttled("slow down")))
    with pytest.raises(Throttled):
        listed(store, Spool(None, "x"))
    assert store.requests["LIST"] == MAX_THROTTLED + 1


def broken_after(store: MemoryStore, requests: int) -> None:
    def fault(verb: str, key: str) -> None:
        del verb, key
        if store.requests["LIST"] > requests:
            raise StoreUnavailable("gone")

    store.fault = fault


def test_a_broken_listing_goes_on(tmp_path: Path) -> None:
    store = MemoryStore("s3://b", NUMBERED, page_size=10)
    broken_after(store, 60)
    path = tmp_path / "spool"
    first = Spool(path, "s3://b/")
    with pytest.raises(StoreUnavailable):
        listed(store, first)
    first.close()
    again = Spool(path, "s3://b/")
    kept = again.keys
    assert kept > 200
    store.fault = None
    store.requests.clear()
    assert listed(store, again) == sorted(NUMBERED)
    assert store.requests["LIST"] <= 2 * (900 - kept) / 10 + 16
    again.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("source", "seconds"), [("s3://c/", 1.0), ("s3://b/", 90_000.0), ("s3://b/", -5.0)])
def test_another_or_an_old_listing_is_not_believed(tmp_path: Path, source: str, seconds: float) -> None:
    path = tmp_path / "spool"
    spool = Spool(path, "s3://b/", clock=lambda: 1000.0)
    assert listed(MemoryStore("s3://b", NUMBERED), spool) == sorted(NUMBERED)
    spool.close()
    other = Spool(path, source, clock=lambda: 1000.0 + seconds)
    assert other.spans() == []
    other.close()


def test_a_disk_that_takes_a_record_in_parts_has_it_whole_or_says_that_it_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spool, write, span = Spool(None, "s3://b/"), os.pwrite, Span(b"", None)
    page = next(MemoryStore("s3://b", dict.fromkeys(("a", "b"), b"1")).list(""))
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: write(file, data[:7], offset))
    assert list(spool.read(spool.add(span, pack_page(span, page), 2))[0].keys) == ["a", "b"]
    room = [7, 7]

    def nearly_full(file: int, data: bytes, offset: int) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: room.pop()], offset)

    monkeypatch.setattr(os, "pwrite", nearly_full)
    with pytest.raises(OSError, match="No space left"):
        spool.add(Span(b"c", None), pack_page(Span(b"c", None), page), 2)
    assert spool.find(b"c") is None
    spool.close()


def test_damage_cuts_off_the_rest_only(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = Spool(path, "s3://b/")
    store = MemoryStore("s3://b", NUMBERED, page_size=100)
    listed(store, spool, concurrency=1)
    spool.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = Spool(path, "s3://b/")
    assert 0 < again.keys < len(NUMBERED)
    assert listed(store, again) == sorted(NUMBERED)


def test_a_second_listing_at_the_same_time_has_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    first, second = Spool(path, "s3://b/"), Spool(path, "s3://b/")
    store = MemoryStore("s3://b", NUMBERED, page_size=100)
    assert listed(store, first) == listed(store, second) == sorted(NUMBERED)
    second.remove()
    assert path.exists()


def test_a_reader_that_stops_ends_the_threads() -> None:
    before = threading.active_count()
    pages = ParallelListing(MemoryStore("s3://b", NUMBERED, page_size=1), "", Spool(None, "x"), 4).pages(
        lambda _: None
    )
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_errors_of_the_store_pass() -> None:
    store = MemoryStore("s3://b", NUMBERED, fault=fail_first(1, AccessDenied("no")))
    with pytest.raises(AccessDenied):
        listed(store, Spool(None, "x"))
