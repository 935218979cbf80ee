"""Counters that children publish from time to time, read so that nothing is missing of what has happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ossmount.app.publishing import PUBLISH_INTERVAL

PUBLISHED = 2 * PUBLISH_INTERVAL
"""Seconds after which counters that stand still have been published: twice the interval."""

T = TypeVar("T")


def rested(look: Callable[[], T], seconds: float = 20.0) -> T:
    """What ``look`` says once it has said the same for as long. Raises TimeoutError after ``seconds``."""
    seen, since = look(), time.monotonic()
    deadline = since + seconds
    while time.monotonic() - since <= PUBLISHED:
        if time.monotonic() > deadline:
            raise TimeoutError(f"did not rest within {seconds} s: {seen}")
        time.sleep(PUBLISHED / 20)
        current = look()
        if current != seen:
            seen, since = current, time.monotonic()
    return seen
