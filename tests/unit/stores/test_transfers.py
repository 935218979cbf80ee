"""What no request can carry, wherever it stands in an index: it is declined, and nothing waits for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from ossmount.cache.memory import NullCache
from ossmount.config import ReadaheadSettings, StoreSettings
from ossmount.errors import StoreError
from ossmount.model import Extent, ObjectId
from ossmount.readahead.fetcher import Fetcher
from ossmount.stores import StorePool
from ossmount.stores.describing import GetRequest, get_request
from ossmount.stores.range_get import RangeGet, Trust
from ossmount.stores.resolving import Resolver
from ossmount.stores.socket_transfers import SocketTransfers
from ossmount.stores.transfers import RangeTransfers
from tests.servers.http import RangeServer
from tests.support.executors import ImmediateExecutor
from tests.support.transferring import work_until

pytestmark = pytest.mark.server
SETTINGS = StoreSettings(connect_timeout=5, request_timeout=20, retries=0)
KEYS = ("here", "access", "secret")


class Store:
    """Describes GETs of one server, signed with the given keys, and counts those that failed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: tuple[str, str, str] | None = None
        self.failed = 0

    def describe(self, target: ObjectId, start: int, length: int) -> GetRequest | None:
        return get_request(f"{self.url}/{target.key}", target, start, length, signing=self.keys)

    def sent(self, size: int, seconds: float, *, failed: bool, throttled: bool = False) -> None:
        self.failed += failed


@pytest.fixture
def store(http_ranges: RangeServer) -> Store:
    http_ranges.put("/x", b"data")
    return Store(http_ranges.url)


@pytest.fixture
def transfers(store: Store) -> Iterator[RangeTransfers]:
    made = RangeTransfers(lambda root: store, SETTINGS, resolver=Resolver(aside=lambda job: job()))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("etag", "keys"),
    [
        ("\N{EN DASH}", None),
        ("e\r\nX: y", None),
        ("", ("here", "a\N{NO-BREAK SPACE}", "secret")),
        ("", ("here", "access", "\udcff")),
    ],
)
@pytest.mark.parametrize("way", ["sockets", "curl"])
def test_what_no_request_can_carry_is_declined(
    http_ranges: RangeServer,
    store: Store,
    transfers: RangeTransfers,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    etag: str,
    keys: tuple[str, str, str] | None,
) -> None:
    if way == "curl":
        monkeypatch.setattr(SocketTransfers, "begin", lambda transfers, get: False)
    store.keys = keys
    assert transfers.start(ObjectId("s3://b", "x", etag, 4), 0, 4, lambda _: pytest.fail("declined")) is False
    assert not http_ranges.requests
    store.keys = KEYS if keys else None
    said: list[bytes | None] = []
    assert transfers.start(ObjectId("s3://b", "x", "", 4), 0, 4, said.append)
    work_until(lambda: said, transfers)
    assert said == [b"data"]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_is_found_however_it_is_written(
    http_ranges: RangeServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, http_ranges.url)
    http_ranges.put("http://store.invalid/x", b"data")
    transfers = RangeTransfers(lambda root: Store("http://store.invalid"), SETTINGS)
    said: list[bytes | None] = []
    assert transfers.start(ObjectId("s3://b", "x", "", 4), 0, 4, said.append)
    work_until(lambda: said, transfers)
    assert said == [b"data"]
    transfers.close()


def test_what_curl_declines_after_the_sockets_began_it_is_told_to_who_asked(
    store: Store, transfers: RangeTransfers
) -> None:
    store.keys = ("here", "access", "s\N{EN DASH}")
    target, said = ObjectId("s3://b", "x", "", 4), list[bytes | None]()
    request = store.describe(target, 0, 4)
    assert request is not None
    transfers._begin_by_curl(RangeGet(request, store, "s3://b", Trust(), said.append, None))
    assert (said, store.failed) == ([None], 1)


@pytest.mark.trio
@pytest.mark.parametrize("etag", ["\N{EN DASH}", "e\r\nX: y"])
async def test_a_file_with_such_an_entity_tag_fails_and_the_next_one_comes(
    http_ranges: RangeServer, store: Store, etag: str
) -> None:
    pool = StorePool(SETTINGS)
    pool.prepare([store.url])
    resolver = Resolver(aside=lambda job: job())
    fetcher = Fetcher(
        pool,
        NullCache(),
        ReadaheadSettings(),
        executor=ImmediateExecutor(),
        transfers=RangeTransfers(pool.find, SETTINGS, resolver=resolver),
    )
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(fetcher.run)
            with pytest.raises(StoreError, match="is no entity tag"):
                await fetcher.read(Extent(ObjectId(store.url, "x", etag, 4), 0, 4), 0, 4)
            assert fetcher.statistics()["in_flight"] == 0
            good = http_ranges.validators("/x")["ETag"].strip('"')
            assert await fetcher.read(Extent(ObjectId(store.url, "x", good, 4), 0, 4), 0, 4) == b"data"
            nursery.cancel_scope.cancel()
    pool.close()
