"""Fixtures: a CSI driver for a whole module, and what it shows. Touch it when tests need another kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_fixtures import trainer, trainers
from tests.support.csi import Plugin, plugin

__all__ = ["trainer", "trainers"]


def write_source(directory: Path) -> Path:
    """A small tree."""
    for name in ("cat/1.txt", "cat/2.txt", "dog/3.txt"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    return directory


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Volume attributes that name a small tree."""
    return {"source": f"file://{write_source(tmp_path_factory.mktemp('source'))}/"}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    """One driver for the tests of a module, each with targets of its own."""
    with plugin(tmp_path_factory.mktemp("csi") / "home", "--local-files") as made:
        yield made


@pytest.fixture
def clean(driver: Plugin) -> Iterator[Plugin]:
    """The driver, of which nothing is left after the test: whatever is, is the test's failure."""
    yield driver
    assert driver.sweep() == []
