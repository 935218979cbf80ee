"""Loads the fixtures that more than one folder uses. Fixtures themselves stand beside what they start."""

pytest_plugins = ["tests.servers.fixtures"]
