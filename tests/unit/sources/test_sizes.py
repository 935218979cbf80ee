"""LIST or HEAD: the decision, what it costs, and that the answer is the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.errors import AccessDenied, StoreError, StoreUnavailable, Unlistable
from ossmount.model import ObjectInfo
from ossmount.sources.sizes import LIST_COST, RUN_KEYS, SizeFetcher, just_before, list_run, plan_requests
from tests.support.memory_store import MemoryStore, fail_first

KEYS = st.text(alphabet="ab/0~é ", min_size=1, max_size=5)


def fetch(store: MemoryStore, keys: list[str], concurrency: int = 4) -> dict[str, ObjectInfo]:
    fetcher = SizeFetcher(concurrency)
    settled: list[int] = []
    try:
        found = fetcher.fetch(store, sorted(keys), settled.append)
    finally:
        fetcher.close()
    assert sum(settled) == len(keys)
    return found


def many(count: int, step: int = 1) -> list[str]:
    return [f"d/{i // 1000:04}/{i:07}.jpg" for i in range(0, count, step)]


@given(st.text(min_size=1))
def test_just_before_is_less(key: str) -> None:
    assert just_before(key).encode("utf-8", "surrogatepass") < key.encode("utf-8", "surrogatepass")


@given(st.sets(KEYS, max_size=40), st.sets(KEYS, min_size=1, max_size=40), st.integers(1, 7))
def test_listing_settles_the_truth(present: set[str], wanted: set[str], page_size: int) -> None:
    store = MemoryStore("s3://b", dict.fromkeys(present, b"x"), page_size=page_size)
    found, left = list_run(store, sorted(wanted))
    settled = wanted - set(left)
    assert {info.key for info in found} == settled & present
    assert store.requests["LIST"] <= len(settled) + 1


@given(st.sets(KEYS, max_size=40), st.sets(KEYS, min_size=1, max_size=40))
def test_fetch_finds_exactly_what_is_there(present: set[str], wanted: set[str]) -> None:
    store = MemoryStore("s3://b", {key: key.encode() for key in present}, page_size=5)
    found = fetch(store, list(wanted), concurrency=2)
    assert found.keys() == wanted & present
    assert all(found[key] == store.head(key) for key in found)


def test_a_whole_data_set_costs_a_list_per_thousand() -> None:
    store = MemoryStore("s3://b", dict.fromkeys(many(5000), b""))
    assert len(fetch(store, many(5000))) == 5000
    assert store.requests == {"LIST": 5}


def test_half_of_it_costs_twice_as_much() -> None:
    store = MemoryStore("s3://b", dict.fromkeys(many(8000), b""))
    assert len(fetch(store, many(8000, step=2))) == 4000
    assert store.requests["HEAD"] == 0
    assert store.requests["LIST"] <= 12


def test_a_sparse_sample_is_asked_by_head() -> None:
    store = MemoryStore("s3://b", dict.fromkeys(many(60_000), b""))
    assert len(fetch(store, many(60_000, step=300))) == 200
    assert store.requests["LIST"] == 1
    assert store.requests["HEAD"] >= 190


def test_few_keys_are_asked_by_head() -> None:
    store = MemoryStore("s3://b", dict.fromkeys(many(50), b""))
    fetch(store, many(50)[:LIST_COST])
    assert store.requests == {"HEAD": LIST_COST}


def test_files_and_http_are_not_listed() -> None:
    store = MemoryStore("file:///", dict.fromkeys(many(2000), b""))
    assert len(fetch(store, many(2000))) == 2000
    assert store.requests == {"HEAD": 2000}


@pytest.mark.parametrize("refusal", [AccessDenied("no"), Unlistable("no")])
def test_who_cannot_list_uses_head(refusal: StoreError) -> None:
    denied = fail_first(10**6, refusal, ["LIST"])
    store = MemoryStore("s3://b", dict.fromkeys(many(5000), b""), fault=denied)
    assert len(fetch(store, many(5000), concurrency=1)) == 5000
    assert store.requests["LIST"] <= 2
    assert store.requests["HEAD"] == 5000


def test_an_error_ends_the_rest() -> None:
    store = MemoryStore("file:///", {}, fault=fail_first(10**6, StoreUnavailable("down")))
    fetcher = SizeFetcher(2)
    with pytest.raises(StoreUnavailable):
        fetcher.fetch(store, many(5000), lambda _: None)
    fetcher.close()
    assert store.requests["HEAD"] < 100


def test_plan_is_pure_and_complete() -> None:
    keys = many(2 * RUN_KEYS + 3)
    plan = plan_requests(keys, listable=True)
    assert [len(run) for run in plan.runs] == [RUN_KEYS, RUN_KEYS]
    assert [*plan.runs[0], *plan.runs[1], *plan.heads] == keys
    assert plan_requests(keys, listable=False).heads == keys
    assert plan_requests([], listable=True).runs == []
