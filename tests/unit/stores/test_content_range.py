"""An answer that holds other bytes than were asked for is no answer, whichever client it came through."""

from __future__ import annotations

import pytest

from ossmount.errors import StoreError, StoreUnavailable
from ossmount.model import ObjectId
from ossmount.protocols import Sink
from ossmount.stores import StorePool
from ossmount.stores.content_range import check_range, names_bytes
from ossmount.stores.http import HttpStore
from ossmount.stores.oss import OssStore
from ossmount.stores.resolving import Resolver
from ossmount.stores.s3 import S3Store
from ossmount.stores.socket_transfers import SocketTransfers
from ossmount.stores.transfers import RangeTransfers
from tests.servers.http import RangeServer, leading_to
from tests.support.sinks import Gathering
from tests.support.transferring import work_until

DATA = bytes(range(256)) * 20
SHIFTS = pytest.mark.parametrize("shift", [0, 7])


@pytest.mark.parametrize(
    ("content_range", "right"),
    [
        ("bytes 10-19/1000", True),
        ("bytes 10-19/*", True),
        ("Bytes  10-19/1000", True),
        ("", True),
        (None, True),
        ("bytes 10-18/1000", False),
        ("bytes 11-20/1000", False),
        ("bytes */1000", False),
        ("items 10-19/1000", False),
        ("nonsense", False),
    ],
)
def test_what_a_content_range_says(content_range: str | None, right: bool) -> None:
    assert names_bytes(content_range, 10, 10) == right
    if not right:
        with pytest.raises(StoreUnavailable, match="other bytes"):
            check_range(content_range, 10, 10, "s3://b/k")


@pytest.fixture
def shifting(http_ranges: RangeServer) -> RangeServer:
    """A server under whose every bucket and root is the object ``x``."""
    http_ranges.put("/x", DATA)
    http_ranges.put("/bkt/x", DATA)
    return http_ranges


@pytest.mark.server
@SHIFTS
@pytest.mark.parametrize("kind", ["http native", "s3 native", "s3 sdk", "oss native", "oss sdk"])
def test_a_store_refuses_them(shifting: RangeServer, kind: str, shift: int) -> None:
    scheme, transport = kind.split()
    asked = leading_to(shifting.url, transport)
    stores = {"http": HttpStore, "s3": S3Store, "oss": OssStore}
    store = stores[scheme](shifting.url if scheme == "http" else "bkt", asked)
    target = ObjectId(store.uri, "x", shifting.validators("/x")["ETag"].strip('"'), len(DATA))
    shifting.shift = shift
    try:
        if shift:
            with pytest.raises(StoreUnavailable):
                store.get_range(target, 100, 200)
        else:
            assert store.get_range(target, 100, 200) == DATA[100:300]
    finally:
        store.close()


@pytest.mark.server
@pytest.mark.parametrize("kind", ["s3 native", "s3 sdk", "oss native", "oss sdk"])
def test_a_server_that_sends_the_whole_object_instead_is_not_believed(
    shifting: RangeServer, kind: str
) -> None:
    scheme, transport = kind.split()
    store = {"s3": S3Store, "oss": OssStore}[scheme]("bkt", leading_to(shifting.url, transport))
    shifting.ranges = False
    for start in (0, 100):
        with pytest.raises(StoreError, match=r"s3://bkt/x|oss://bkt/x"):
            store.get_range(ObjectId(store.uri, "x", "", len(DATA)), start, 200)
    store.close()


@pytest.mark.server
@SHIFTS
@pytest.mark.parametrize("way", ["sockets", "curl", "curl without a sink"])
def test_a_transfer_refuses_them(
    shifting: RangeServer, monkeypatch: pytest.MonkeyPatch, way: str, shift: int
) -> None:
    if way != "sockets":
        monkeypatch.setattr(SocketTransfers, "begin", lambda transfers, get: False)
    pool = StorePool(leading_to(shifting.url))
    pool.prepare([shifting.url])
    transfers = RangeTransfers(
        pool.find, leading_to(shifting.url), resolver=Resolver(aside=lambda job: job())
    )
    target = ObjectId(shifting.url, "x", shifting.validators("/x")["ETag"].strip('"'), len(DATA))
    shifting.shift = shift
    sink, said = Gathering(), list[bytes | None]()
    into: Sink | None = None if way == "curl without a sink" else sink
    try:
        assert transfers.start(target, 100, 200, said.append, into)
        work_until(lambda: said, transfers)
    finally:
        transfers.close()
        pool.close()
    assert (sink.data, said) == {
        (False, 0): (DATA[100:300], [b""]),
        (True, 0): (b"", [DATA[100:300]]),
    }.get((into is None, shift), (b"", [None]))
