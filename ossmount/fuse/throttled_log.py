"""Log lines that come at most once a minute each (SEMANTICS, Errors).

What may live here: rate limiting of log lines and filters of foreign ones. Who may touch it: anyone who
logs from a request.
"""

from __future__ import annotations

import errno
import logging
import os
import time

INTERVAL_SECONDS = 60.0
"""The same message is logged once in this time."""

REMEMBERED = 1024
"""Messages remembered; when more differ within a minute the oldest are forgotten, never the log lost."""


class ThrottledLog:
    """Logs a message unless the same one was logged within the last minute."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last: dict[str, float] = {}

    def log(self, level: int, message: str, error: BaseException | None = None) -> bool:
        """True where the line was written. ``error`` adds its traceback."""
        now = time.monotonic()
        last = self._last.pop(message, None)
        if last is not None and now - last < INTERVAL_SECONDS:
            self._last[message] = last
            return False
        if len(self._last) >= REMEMBERED:
            del self._last[next(iter(self._last))]
        self._last[message] = now
        self._logger.log(level, "%s", message, exc_info=error)
        return True


class AnsweredTwice(logging.Filter):
    """Drops pyfuse3's complaint about a reply that the kernel no longer waits for (ENOENT).

    After a resend a request may be answered by two workers, and an interrupted one by nobody's wish;
    the second reply fails with ENOENT and nothing is wrong (FACTS).
    """

    _gone = f"fuse_reply_* failed with {os.strerror(errno.ENOENT)}"

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a reply that failed with ENOENT."""
        return not record.getMessage().endswith(self._gone)
