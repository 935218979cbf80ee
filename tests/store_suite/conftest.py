"""The place and the store under test, once for each backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from ossmount.config import StoreSettings
from ossmount.protocols import ObjectStore
from ossmount.stores import open_store
from tests.servers.tls import tell_nothing
from tests.store_suite.backends import BACKENDS, Place

Open = Callable[[str, StoreSettings], ObjectStore]


@pytest.fixture(params=list(BACKENDS))
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place of every backend."""
    return _enter(BACKENDS[request.param].make(request), monkeypatch)


@pytest.fixture(params=[name for name, backend in BACKENDS.items() if backend.tls])
def tls_place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place of every backend behind TLS."""
    return _enter(BACKENDS[request.param].make(request), monkeypatch)


@pytest.fixture(params=[name for name, backend in BACKENDS.items() if backend.lists])
def listed_place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place of every backend whose listing is tested."""
    return _enter(BACKENDS[request.param].make(request), monkeypatch)


def _enter(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    tell_nothing(monkeypatch)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    return place


@pytest.fixture
def opened() -> Iterator[Open]:
    """``open_store`` whose stores are closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def open_and_close(root: str, settings: StoreSettings) -> ObjectStore:
            store = open_store(root, settings)
            stack.callback(store.close)
            return store

        yield open_and_close


@pytest.fixture
def store_under_test(place: Place, opened: Open) -> ObjectStore:
    """The store of ``place``."""
    return opened(place.root, place.settings)


@pytest.fixture
def listed_store(listed_place: Place, opened: Open) -> ObjectStore:
    """The store of ``listed_place``."""
    return opened(listed_place.root, listed_place.settings)
