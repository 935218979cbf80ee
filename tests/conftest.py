"""Loads the fixtures that more than one folder uses. Fixtures themselves stand beside what they start."""

import pytest
from hypothesis import settings

pytest_plugins = ["tests.servers.fixtures"]

# A busy machine is no failure: how long an example takes is for the benchmarks to say.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Asked by pytest-xdist: what may run beside what."""
    from tests.support.lanes import Lanes

    return Lanes(config, log)
