"""Transfers that somebody works for, as the loop of a process does (see ``ossmount.protocols.Transfers``)."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from ossmount.protocols import Transfers

SECONDS = 20.0


def work_until(done: Callable[[], object], transfers: Transfers) -> None:
    """Works until ``done()``; fails after 20 s."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, transfers
        select.select([transfers.fileno()], [], [], 0.05)
        transfers.work()
