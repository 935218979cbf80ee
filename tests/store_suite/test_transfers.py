"""The same ranges without a thread for each: what Transfers owe, over every store that describes GETs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ossmount.errors import ObjectMissing
from ossmount.model import ObjectId
from ossmount.stores import StorePool
from ossmount.stores.curl_transfers import CurlTransfers
from ossmount.stores.range_get import MISTRUST_AFTER, RangeGet
from ossmount.stores.resolving import Resolver
from ossmount.stores.socket_transfers import SocketTransfers
from ossmount.stores.transfers import RangeTransfers
from tests.store_suite.backends import Place
from tests.support.sinks import Gathering
from tests.support.transferring import work_until

pytestmark = pytest.mark.server

DATA = random.Random(2).randbytes(110_001)
NAMES = ("x", "with blank", "a//b", "per%cent+plus", "\u00fcml\u00e4ut", "sub/dir/~tilde")


class Ranges:
    """Asks for many ranges at once and gathers what comes."""

    def __init__(self, place: Place) -> None:
        self.pool = StorePool(place.settings)
        self.pool.prepare([place.root])
        resolver = Resolver(aside=lambda job: job())
        self.transfers = RangeTransfers(self.pool.find, place.settings, resolver=resolver)

    def get(self, wanted: list[tuple[ObjectId, int, int]]) -> list[bytes | None]:
        """The bodies in the order of ``wanted``; None for what is left to ``get_range``."""
        found: dict[int, bytes | None] = {}
        started = [
            number
            for number, (target, start, length) in enumerate(wanted)
            if self.transfers.start(
                target, start, length, lambda body, number=number: found.__setitem__(number, body)
            )
        ]
        work_until(lambda: len(found) >= len(started), self.transfers)
        return [found.get(number) for number in range(len(wanted))]

    def pour(self, target: ObjectId, start: int, length: int) -> tuple[bytes, list[bytes | None]]:
        """What a sink was given, and what was said at the end."""
        sink, said = Gathering(), list[bytes | None]()
        assert self.transfers.start(target, start, length, said.append, sink)
        work_until(lambda: said, self.transfers)
        return sink.data, said

    def counted(self) -> tuple[float, float, float]:
        """Requests, failed ones, and bytes, as the pool has them."""
        now = self.pool.statistics()
        return now["get_requests"], now["get_errors"], now["get_bytes"]


@pytest.fixture
def ranges(place: Place) -> Iterator[Ranges]:
    """Transfers over the store of ``place``; skips stores that describe nothing."""
    yield from opened(place)


@pytest.fixture(params=["sockets", "curl"])
def pouring(
    place: Place, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ranges]:
    """The same once for each way that a body with a sink can go."""
    if request.param == "curl":
        monkeypatch.setattr(SocketTransfers, "begin", lambda transfers, get: False)
    elif "https" in f"{place.root} {place.settings.endpoint_url}":
        pytest.skip("what comes through TLS comes through libcurl")
    else:
        through_curl = CurlTransfers.begin

        def begin(transfers: CurlTransfers, get: RangeGet) -> bool:
            assert get.sink is None, "the sockets should have taken it"
            return through_curl(transfers, get)

        monkeypatch.setattr(CurlTransfers, "begin", begin)
    yield from opened(place)


def opened(place: Place) -> Iterator[Ranges]:
    made = Ranges(place)
    store = made.pool(place.root)
    if made.pool.find(place.root) is None or store.describe(ObjectId(place.root, "x", "e", 1), 0, 1) is None:
        pytest.skip("this store only has blocking calls")
    yield made
    made.transfers.close()
    made.pool.close()


def put(place: Place, ranges: Ranges, name: str, data: bytes) -> ObjectId:
    """Puts the object and gives its identity."""
    place.put(place.prefix + name, data)
    info = ranges.pool(place.root).head(place.prefix + name)
    return ObjectId(place.root, info.key, info.etag, info.size)


def test_many_ranges_at_once(place: Place, ranges: Ranges) -> None:
    target = put(place, ranges, "x", DATA)
    spans = [(i * 337 % 100_000, 1 + i * 7919 % 10_001) for i in range(40)] + [(0, len(DATA))]
    bodies = ranges.get([(target, start, length) for start, length in spans])
    assert bodies == [DATA[start : start + length] for start, length in spans]
    assert ranges.counted() == (41, 0, sum(length for _, length in spans))


@pytest.mark.parametrize("name", NAMES)
def test_names_mean_what_they_say_or_are_declined(place: Place, ranges: Ranges, name: str) -> None:
    try:
        target = put(place, ranges, name, DATA[:999])
    except ObjectMissing:
        pytest.skip("a URL's path, which this server decodes")
    (body,) = ranges.get([(target, 1, 500)])
    assert body is None or body == DATA[1:501]
    if name in {"x", "sub/dir/~tilde"}:
        assert body is not None


def test_what_is_not_that_version_is_no_answer(place: Place, ranges: Ranges) -> None:
    old = put(place, ranges, "x", b"version 1")
    new = put(place, ranges, "x", b"version 2 is longer")
    gone = put(place, ranges, "y", b"1")
    place.delete(place.prefix + "y")
    assert ranges.get([(old, 0, 4), (new, 0, 9), (gone, 0, 1)]) == [None, b"version 2", None]
    requests, errors, size = ranges.counted()
    assert (requests, errors, size) == (3, 2, 9)
    assert ranges.pool.details()["repeats"] == 2


def test_a_sink_is_given_the_bytes_of_that_version_and_no_others(place: Place, pouring: Ranges) -> None:
    old = put(place, pouring, "x", DATA[:999])
    new = put(place, pouring, "x", DATA)
    assert pouring.pour(new, 7, 100_000) == (DATA[7:100_007], [b""])
    assert pouring.pour(old, 0, 900) == (b"", [None])
    assert pouring.pour(new, 0, len(DATA)) == (DATA, [b""])
    assert pouring.get([(new, 3, 50)]) == [DATA[3:53]], "the handle serves again without a sink"
    requests, errors, size = pouring.counted()
    assert (requests, errors, size) == (4, 1, 100_050 + len(DATA))


def test_a_store_that_never_answers_so_is_left_alone_for_a_while(place: Place, ranges: Ranges) -> None:
    target = put(place, ranges, "x", b"1")
    place.delete(place.prefix + "x")
    wanted = [(target, 0, 1)] * MISTRUST_AFTER
    assert ranges.get(wanted) == [None] * MISTRUST_AFTER
    assert not ranges.transfers.start(target, 0, 1, lambda body: pytest.fail("it was declined"))


def test_wrong_keys_are_no_answer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if not place.wrong_environment:
        pytest.skip("the server knows no credentials")
    place.put(place.prefix + "x", b"1")
    for name, value in place.wrong_environment.items():
        monkeypatch.setenv(name, value)
    ranges = Ranges(replace(place, environment={}))
    assert ranges.get([(ObjectId(place.root, place.prefix + "x", "", 1), 0, 1)]) == [None]
    ranges.transfers.close()
    ranges.pool.close()


def test_a_server_whose_certificate_is_a_stranger_s_gives_no_answer(
    tls_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_place.put(tls_place.prefix + "x", b"1")
    for name, value in tls_place.strange_environment.items():
        monkeypatch.setenv(name, value)
    target = ObjectId(tls_place.root, tls_place.prefix + "x", "", 1)
    with contextmanager(opened)(tls_place) as ranges:
        assert ranges.get([(target, 0, 1)]) == [None]
        assert ranges.pour(target, 0, 1) == (b"", [None])
