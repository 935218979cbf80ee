"""Loads the fixtures that more than one folder uses, and says which tests run beside each other.

Fixtures themselves stand beside what they start.
"""

from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.servers.fixtures"]

# A busy machine is no failure: how long an example takes is for the benchmarks to say.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

WITHOUT_MOUNTS = frozenset({"docs", "model", "store_suite", "unit"})
"""Folders whose tests touch nothing that the machine has only once, and so may run beside all others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For pytest-xdist: files without mounts are one group each, everything else is one of its own.

    Tests of real mounts count requests, kill processes, drop caches and look at what is mounted: they follow
    each other.
    """
    for item in items:
        folder, file = _place(item.path)
        item.add_marker(pytest.mark.xdist_group(file if folder in WITHOUT_MOUNTS else "mounts"))


def _place(path: Path) -> tuple[str, str]:
    below = path.relative_to(Path(__file__).parent)
    return below.parts[0], str(below)
