"""Fixtures of tests that mount."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounting import Mounted, mounted

FAKES = "tests.support.fake_filesystem"
Mount = Callable[..., Mounted]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """``mount("serve_small", workers=2)`` gives a serving mount that ends with the test."""
    with contextlib.ExitStack() as stack:

        def make(factory: str = "serve_small", workers: int = 2, *options: str) -> Mounted:
            directory = tmp_path / f"mount{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(mounted(directory, f"{FAKES}:{factory}", workers, *options))

        yield make


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """One mount of the small tree for all tests of a module that only look."""
    with mounted(tmp_path_factory.mktemp("small"), f"{FAKES}:serve_small", 2) as mount:
        yield mount
