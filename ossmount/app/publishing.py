"""How a child of a mount publishes its counters (:mod:`ossmount.app.statistics` reads them)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import trio

from ossmount.app.runtime import write_json
from ossmount.app.statistics import Counters

PUBLISH_INTERVAL = 0.5
"""Seconds between looks at the counters: fresh enough for a live view. A look costs 0.5 ms of CPU, several
times as much where programs keep the caches of the CPU busy: every 0.2 s it was one percent of two cores."""


async def publish(
    directory: Path, kind: str, counters: Callable[[], Counters], on_look: Callable[[], None]
) -> None:
    """Publishes ``counters()`` until cancelled, and once more at the end; calls ``on_look`` as often."""
    path = directory / "stats" / f"{kind}-{os.getpid()}.json"
    published: Counters | None = None
    try:
        while True:
            published = _publish_once(path, counters, published)
            on_look()
            await trio.sleep(PUBLISH_INTERVAL)
    finally:
        _publish_once(path, counters, published)


def _publish_once(
    path: Path, counters: Callable[[], Counters], published: Counters | None
) -> Counters | None:
    current = counters()
    if current == published:
        return published
    try:
        write_json(path, current)
    except OSError:
        return published  # the directory goes away when the mount does
    return current
