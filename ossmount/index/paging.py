"""Has the kernel bring an index file into the page cache before a walk over it touches page by page.

LMDB's mapping is read at random, so the kernel reads nothing ahead, and a walk over a file that is not in the
page cache waits for page after page: 100,000 names took 170 ms, with this 43 (local disk, 4 KiB pages).
Look-ups alone ask for nothing: they touch few pages.

What may live here: advice to the kernel. Who may touch it: whoever measures walks and look-ups after the page
cache was dropped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

WHOLE_FILE = 128 << 20
"""Bytes up to which a walk has the whole file brought in: some two million objects. A walk over more takes
seconds, and memory that others need."""

ASK_AGAIN = 5.0
"""Seconds without a listing after which the kernel may have given the pages to others. To ask for nothing
costs 20 ns a page."""


class Paging:
    """Asks for the pages of one index file when directories begin to be listed. To be closed."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._clock = clock
        self._small = os.fstat(self._descriptor).st_size <= WHOLE_FILE
        self._listed = -ASK_AGAIN

    def listing(self) -> bool:
        """To be told of each listing. True when the file was asked for; returns without waiting for it."""
        now, before = self._clock(), self._listed
        self._listed = now
        if not self._small or now - before < ASK_AGAIN:
            return False
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        return True

    def close(self) -> None:
        """Gives the file back, once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor, self._small = -1, False
