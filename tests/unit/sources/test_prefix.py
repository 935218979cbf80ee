"""The prefix as a source."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.errors import AccessDenied, EmptySource, SourceError, StoreUnavailable
from ossmount.model import Entry, Progress
from ossmount.sources import PrefixSource
from tests.support.memory_store import MemoryStore, fail_first, opener

KEYS = st.text(alphabet="ab/.\n%é\U0001f600", min_size=1, max_size=8)


def read(prefix: str, store: MemoryStore) -> list[Entry]:
    source = PrefixSource(store.uri, prefix, opener(store))
    return [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]


@given(st.dictionaries(KEYS, st.binary(max_size=2), min_size=1, max_size=20), st.integers(1, 5))
def test_nothing_is_lost_and_paths_are_sorted(objects: dict[str, bytes], page_size: int) -> None:
    entries = read("", MemoryStore("s3://b", objects, page_size=page_size))
    assert [entry.path for entry in entries] == sorted(key.encode() for key in objects)
    assert all(entry.extent.length == len(objects[entry.extent.object.key]) for entry in entries)


@pytest.mark.parametrize("prefix", ["train", "train/"])
def test_a_prefix_is_a_directory(prefix: str) -> None:
    store = MemoryStore("s3://b", {"train/a": b"1", "train/x/": b"", "train2/b": b"2", "train": b"object"})
    entries = read(prefix, store)
    assert [entry.path for entry in entries] == [b"a", b"x/"]
    assert entries[0].extent.object == store.id_of("train/a")
    assert store.requests == {"LIST": 1}
    assert PrefixSource("s3://b", prefix, opener(store)).description == "s3://b/train/"


def test_the_own_marker_is_no_entry_but_content_is() -> None:
    assert [e.path for e in read("t", MemoryStore("s3://b", {"t/": b"", "t/a": b""}))] == [b"a"]
    assert [e.path for e in read("t", MemoryStore("s3://b", {"t/": b"!", "t/a": b""}))] == [b"", b"a"]


def test_progress_counts_objects() -> None:
    store = MemoryStore("s3://b", {str(i): b"" for i in range(5)}, page_size=2)
    steps: list[Progress] = []
    list(PrefixSource("s3://b", "", opener(store)).batches(steps.append))
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert done[-1] == 5


@pytest.mark.parametrize("objects", [{}, {"train/": b""}, {"training/x": b""}])
def test_nothing_is_an_error(objects: dict[str, bytes]) -> None:
    with pytest.raises(EmptySource, match="s3://b/train/ holds no object"):
        read("train", MemoryStore("s3://b", objects))


def test_an_object_is_not_a_directory() -> None:
    with pytest.raises(SourceError, match=r"s3://b/a\.tar is an object") as caught:
        read("a.tar", MemoryStore("s3://b", {"a.tar": b"x"}))
    assert "--manifest" in caught.value.remedy


def test_empty_even_where_head_is_denied() -> None:
    store = MemoryStore("s3://b", {}, fault=fail_first(1, AccessDenied("no"), ["HEAD"]))
    with pytest.raises(EmptySource):
        read("x", store)


def test_errors_of_the_store_pass() -> None:
    store = MemoryStore("s3://b", {"x": b""}, fault=fail_first(1, AccessDenied("no"), ["LIST"]))
    with pytest.raises(AccessDenied):
        read("", store)


def test_a_broken_listing_is_gone_on_with_and_then_forgotten(tmp_path: Path) -> None:
    store = MemoryStore("s3://b", {f"{i:03}": b"" for i in range(500)}, page_size=10)

    def fault(verb: str, key: str) -> None:
        del verb, key
        if store.requests["LIST"] > 20:
            raise StoreUnavailable("gone")

    def paths() -> list[bytes]:
        source = PrefixSource("s3://b", "", opener(store), spool=tmp_path / ".x.listing")
        return [path for batch in source.batches(lambda _: None) for path in batch.paths]

    store.fault = fault
    with pytest.raises(StoreUnavailable):
        paths()
    assert [path.name for path in tmp_path.iterdir()] == [".x.listing"]
    store.fault = None
    store.requests.clear()
    assert paths() == [b"%03d" % i for i in range(500)]
    assert store.requests["LIST"] < 60
    assert list(tmp_path.iterdir()) == []
