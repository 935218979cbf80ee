"""The fake keeps the contract it is used to stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.errors import BucketMissing, ObjectChanged, ObjectMissing, StoreUnavailable, Throttled
from ossmount.protocols import ObjectStore, OpenStore
from tests.support.memory_store import MemoryStore, fail_first, opener

KEYS = st.dictionaries(
    st.text(alphabet="a/é\U0001f600", min_size=1, max_size=6), st.binary(max_size=3), max_size=30
)


def test_it_is_an_object_store() -> None:
    store: ObjectStore = MemoryStore("s3://b")
    open_store: OpenStore = opener(MemoryStore("s3://b"))
    assert store.uri == open_store("s3://b").uri
    with pytest.raises(BucketMissing):
        open_store("s3://c")


@given(KEYS, st.text(alphabet="a/é", max_size=2), st.text(alphabet="a/é", max_size=3), st.integers(1, 4))
def test_listing_equals_the_sorted_dict(
    objects: dict[str, bytes], prefix: str, after: str, size: int
) -> None:
    store = MemoryStore("s3://b", objects, page_size=size)
    listed = [info for page in store.list(prefix, after) for info in page.objects()]
    expected = sorted((k for k in objects if k.startswith(prefix) and k > after), key=str.encode)
    assert [info.key for info in listed] == expected
    assert all(info.size == len(objects[info.key]) for info in listed)
    assert store.requests["LIST"] == max(1, -(-len(expected) // size))


@given(KEYS, st.text(alphabet="a/é", max_size=2), st.integers(1, 4))
def test_delimited_listing_partitions_the_keys(objects: dict[str, bytes], prefix: str, size: int) -> None:
    pages = list(MemoryStore("s3://b", objects, page_size=size).list(prefix, delimiter="/"))
    keys = [key for page in pages for key in page.keys]
    prefixes = [p for page in pages for p in page.prefixes]
    below = [key for key in objects if key.startswith(prefix)]
    assert set(keys) == {key for key in below if "/" not in key[len(prefix) :]}
    nested = [key for key in below if "/" in key[len(prefix) :]]
    assert set(prefixes) == {key[: key.index("/", len(prefix)) + 1] for key in nested}
    assert len(set(prefixes)) == len(prefixes)


def test_reads_are_of_one_version() -> None:
    store = MemoryStore("s3://b", {"k": b"0123"})
    old = store.id_of("k")
    assert store.get_range(old, 1, 2) == b"12"
    assert store.get_range(old, 9, 0) == b""
    assert store.requests == {"GET": 1}
    with pytest.raises(StoreUnavailable):
        store.get_range(old, 2, 3)
    new = store.put("k", b"abcd")
    assert store.head("k") == new
    with pytest.raises(ObjectChanged):
        store.get_range(old, 0, 1)
    assert store.get_range(old._replace(etag=""), 0, 1) == b"a"
    store.delete("k")
    with pytest.raises(ObjectMissing):
        store.get_range(old, 0, 1)
    with pytest.raises(ObjectMissing):
        store.head("k")


def test_faults_and_closing() -> None:
    store = MemoryStore("s3://b", {"k": b"x"}, fault=fail_first(2, Throttled("slow"), ["HEAD"]))
    for _ in range(2):
        with pytest.raises(Throttled):
            store.head("k")
    assert store.head("k").size == 1
    assert store.requests["HEAD"] == 3
    store.close()
    with pytest.raises(RuntimeError):
        store.head("k")
