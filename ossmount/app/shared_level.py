"""The log level of all processes of a mount, which may change while they run.

A byte of memory that all forks share: the supervisor sets it, children look twice a second.
"""

from __future__ import annotations

import logging
import mmap

LEVELS = ("debug", "info", "warning", "error")


class SharedLevel:
    """Made before the fork. ``level`` is one of ``LEVELS``."""

    def __init__(self, level: str = "info") -> None:
        self._byte = mmap.mmap(-1, 1)
        self._applied = level
        self.set(level)

    def __repr__(self) -> str:
        return f"SharedLevel({self.get()!r})"

    def get(self) -> str:
        """The level that holds now."""
        return LEVELS[self._byte[0]]

    def set(self, level: str) -> None:
        """Sets the level for all processes. Raises ValueError."""
        self._byte[0] = LEVELS.index(level)

    def apply(self) -> None:
        """Makes this process log accordingly."""
        level = self.get()
        if level != self._applied:
            self._applied = level
            logging.getLogger().setLevel(level.upper())
