"""Which tests run beside each other where pytest-xdist has several processes.

Touch it when a folder begins or ceases to use what the machine has only once.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

WITHOUT_MOUNTS = frozenset({"docs", "model", "store_suite", "unit"})
"""Folders below tests/ whose files may run beside any other."""


class Lanes(LoadScopeScheduling):
    """Files without mounts are scopes of their own, everything else is one: it stays in one process.

    Tests of real mounts count requests, kill processes, drop caches and look at what is mounted: they follow
    each other.
    """

    def _split_scope(self, nodeid: str) -> str:
        """The scope of a test; pytest-xdist's own documents have schedulers override it."""
        file, _, _ = nodeid.partition("::")
        folder = file.split("/")[1]
        return file if folder in WITHOUT_MOUNTS else "mounts"
