"""HEAD and ranges: what every store owes its readers."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ossmount.errors import AccessDenied, BucketMissing, ObjectChanged, ObjectMissing, StoreUnavailable
from ossmount.model import ObjectId
from ossmount.protocols import ObjectStore
from tests.store_suite.backends import Place
from tests.store_suite.conftest import Open

pytestmark = pytest.mark.server

DATA = random.Random(1).randbytes(110_001)


def put(place: Place, store: ObjectStore, name: str, data: bytes) -> ObjectId:
    """Puts the object and gives its identity as HEAD tells it."""
    place.put(place.prefix + name, data)
    info = store.head(place.prefix + name)
    return ObjectId(store.uri, info.key, info.etag, info.size)


def test_uri_is_the_root(place: Place, store_under_test: ObjectStore) -> None:
    assert store_under_test.uri == place.root


def test_head(place: Place, store_under_test: ObjectStore) -> None:
    place.put(place.prefix + "x", DATA)
    info = store_under_test.head(place.prefix + "x")
    assert info.key == place.prefix + "x"
    assert info.size == len(DATA)
    assert info.etag
    assert '"' not in info.etag
    assert info.mtime_ns > 1_600_000_000 * 10**9


def test_head_of_nothing(place: Place, store_under_test: ObjectStore) -> None:
    place.put(place.prefix + "x", b"1")
    with pytest.raises(ObjectMissing) as caught:
        store_under_test.head(place.prefix + "y")
    assert place.prefix + "y" in caught.value.message


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 1), (0, 110_001), (110_000, 1), (1, 110_000), (4095, 4097), (65_536, 1), (50_000, 0), (110_001, 0)],
)
def test_exact_range(place: Place, store_under_test: ObjectStore, start: int, length: int) -> None:
    target = put(place, store_under_test, "x", DATA)
    got = store_under_test.get_range(target, start, length)
    assert type(got) is bytes
    assert got == DATA[start : start + length]


def test_empty_object(place: Place, store_under_test: ObjectStore) -> None:
    target = put(place, store_under_test, "empty", b"")
    assert target.size == 0
    assert store_under_test.get_range(target, 0, 0) == b""


def test_range_past_the_end_is_no_answer(place: Place, store_under_test: ObjectStore) -> None:
    target = put(place, store_under_test, "x", b"12345")
    with pytest.raises(StoreUnavailable):
        store_under_test.get_range(target, 3, 4)


def test_overwritten_object_is_changed(place: Place, store_under_test: ObjectStore) -> None:
    old = put(place, store_under_test, "x", b"version 1")
    new = put(place, store_under_test, "x", b"version 2 is longer")
    with pytest.raises(ObjectChanged) as caught:
        store_under_test.get_range(old, 0, 4)
    assert place.prefix + "x" in caught.value.message
    assert store_under_test.get_range(new, 0, 9) == b"version 2"


def test_without_etag_any_version_is_read(place: Place, store_under_test: ObjectStore) -> None:
    old = put(place, store_under_test, "x", b"version 1")
    place.put(place.prefix + "x", b"version 2")
    assert store_under_test.get_range(old._replace(etag=""), 0, 9) == b"version 2"


def test_deleted_object_is_missing(place: Place, store_under_test: ObjectStore) -> None:
    target = put(place, store_under_test, "x", b"1")
    put(place, store_under_test, "y", b"1")
    place.delete(place.prefix + "x")
    for identity in (target, target._replace(etag="")):
        with pytest.raises(ObjectMissing):
            store_under_test.get_range(identity, 0, 1)


def test_thirty_two_threads_at_once(place: Place, store_under_test: ObjectStore) -> None:
    target = put(place, store_under_test, "x", DATA)
    spans = [(i * 337 % 100_000, 1 + i * 7919 % 10_001) for i in range(256)]
    with ThreadPoolExecutor(32) as threads:
        got = list(threads.map(lambda span: store_under_test.get_range(target, *span), spans))
    assert got == [DATA[start : start + length] for start, length in spans]


def test_wrong_credentials(place: Place, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    if not place.wrong_environment:
        pytest.skip("the server knows no credentials")
    place.put(place.prefix + "x", b"1")
    for name, value in place.wrong_environment.items():
        monkeypatch.setenv(name, value)
    store = opened(place.root, place.settings)
    for call in calls(store, place):
        with pytest.raises(AccessDenied) as caught:
            call()
        assert caught.value.remedy


def test_a_server_whose_certificate_is_a_stranger_s_is_told_nothing(
    tls_place: Place, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_place.put(tls_place.prefix + "x", b"1")
    for name, value in tls_place.strange_environment.items():
        monkeypatch.setenv(name, value)
    store = opened(tls_place.root, tls_place.settings)
    for call in calls(store, tls_place):
        with pytest.raises(StoreUnavailable, match="certificate") as caught:
            call()
        assert caught.value.remedy


def test_missing_bucket(place: Place, opened: Open) -> None:
    if not place.missing_root:
        pytest.skip("the store has no buckets")
    store = opened(place.missing_root, place.settings)
    for call in calls(store, place):
        with pytest.raises(BucketMissing) as caught:
            call()
        assert place.missing_root in caught.value.message


def test_refused_connection(place: Place, opened: Open) -> None:
    if place.unreachable is None:
        pytest.skip("the store needs no connection")
    root, settings = place.unreachable
    store = opened(root, replace(settings, connect_timeout=5))
    for call in calls(store, place):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert caught.value.remedy


def calls(store: ObjectStore, place: Place):  # noqa: ANN201
    """HEAD, GET, and LIST where it exists."""
    target = ObjectId(store.uri, place.prefix + "x", "", 1)
    made = [lambda: store.head(target.key), lambda: store.get_range(target, 0, 1)]
    if not store.uri.startswith("http"):
        made.append(lambda: next(store.list(place.prefix)))
    return made
