"""Names and entity tags that no request can carry: refused in one line, whichever client would send them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ossmount.errors import StoreError, StoreUnavailable
from ossmount.model import ObjectId
from ossmount.protocols import ObjectStore
from ossmount.stores.http import MODIFIED, HttpStore
from ossmount.stores.oss import OssStore
from ossmount.stores.s3 import S3Store
from tests.servers.http import leading_to
from tests.servers.process import closed_port


@pytest.fixture(params=["http native", "s3 native", "s3 sdk", "oss native", "oss sdk"])
def store(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    """A store that nobody answers for."""
    scheme, transport = request.param.split()
    url = f"http://127.0.0.1:{closed_port()}"
    asked = leading_to(url, transport)
    kinds = {"http": HttpStore, "s3": S3Store, "oss": OssStore}
    opened = kinds[scheme](url if scheme == "http" else "bkt", asked)
    yield opened
    opened.close()


@pytest.mark.parametrize("etag", ["a\nX-Other: b", "a\x7f", "\u65e5\u672c"])
def test_an_entity_tag_that_no_header_holds(store: ObjectStore, etag: str) -> None:
    with pytest.raises(StoreError, match=r"/x: '[ -~]*' is no entity tag; correct the list") as caught:
        store.get_range(ObjectId(store.uri, "x", etag, 9), 0, 9)
    assert type(caught.value) is StoreError  # asking again would not help


def test_an_entity_tag_beyond_ascii_is_sent(store: ObjectStore) -> None:
    with pytest.raises(StoreUnavailable):  # nobody answers
        store.get_range(ObjectId(store.uri, "x", "\xe9", 9), 0, 9)


def test_a_date_that_no_header_holds() -> None:
    store = HttpStore(f"http://127.0.0.1:{closed_port()}", leading_to(None))
    with pytest.raises(StoreError, match="is no entity tag"):
        store.get_range(ObjectId(store.uri, "x", f"{MODIFIED}\u65e5", 9), 0, 9)
    store.close()


def test_a_name_that_is_no_text(store: ObjectStore) -> None:
    if isinstance(store, HttpStore):  # its keys are sent as they are, byte by byte
        return
    target = ObjectId(store.uri, "a\udcff", "e", 9)
    for ask in (
        lambda: store.get_range(target, 0, 9),
        lambda: store.head(target.key),
        lambda: list(store.list(target.key)),
    ):
        with pytest.raises(StoreError, match=r"holds no such name|HTTP cannot ask") as caught:
            ask()
        assert type(caught.value) is StoreError
