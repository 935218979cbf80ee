"""What failed in a cache: counted each time, told now and then. A failing disk fails for every block."""

from __future__ import annotations

import logging
import time
from pathlib import Path

LOG_SECONDS = 60.0
"""One line per minute."""


class FailureLog:
    """Of the cache in ``directory``; lines go to ``log``."""

    def __init__(self, directory: Path, log: logging.Logger) -> None:
        self._directory = directory
        self._log = log
        self._next = 0.0
        self._unlogged = 0

    def __repr__(self) -> str:
        return f"FailureLog({self._directory}, {self._unlogged} not told)"

    def tell(self, text: str) -> None:
        """One failure."""
        now = time.monotonic()
        if now < self._next:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more in the last minute)" if self._unlogged else ""
        self._log.warning("cache %s: %s; reading goes on without it%s", self._directory, text, more)
        self._next = now + LOG_SECONDS
        self._unlogged = 0
