"""Loads the fixtures that more than one folder uses. Fixtures themselves stand beside what they start."""

from hypothesis import settings

pytest_plugins = ["tests.servers.fixtures"]

# A busy machine is no failure: how long an example takes is for the benchmarks to say.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
