"""Statistics across processes: every child publishes its counters, anyone may sum them up.

A child writes ``stats/<kind>-<pid>.json`` in the runtime directory a few times a second, and only if
something changed; a dead child's file stays, so sums never run backwards. Counters nest by room
(``{"store": {"get_requests": 12}, …}``) and add up by name; what must not be added (a high-water mark,
a time stamp) does not belong here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from ossmount.app.runtime import runtime_directory, write_json
from ossmount.errors import MountError
from ossmount.fuse.mountpoint import resolve

PUBLISH_INTERVAL = 0.2
"""Seconds between looks at the counters: fresh enough for a live view, unmeasurable as a cost."""

Counters = Mapping[str, Any]


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


def read_statistics(mountpoint: str) -> dict[str, Any]:
    """The sum over all children of the mount, dead ones included. Raises MountError."""
    directory = runtime_directory(str(resolve(Path(mountpoint)))) / "stats"
    if not directory.is_dir():
        raise MountError(
            f"no ossmount mount of this user at {mountpoint}", "see 'ossmount list' for what is mounted"
        )
    return sum_statistics(directory)


def sum_statistics(directory: Path) -> dict[str, Any]:
    """The sum over all files of ``directory``."""
    total: dict[str, Any] = {}
    for path in sorted(directory.glob("[!.]*.json")):
        try:
            add_counters(total, json.loads(path.read_bytes()))
        except (OSError, ValueError):
            continue  # being replaced, or of a child killed while the disk was full
    return total


def add_counters(total: dict[str, Any], counters: Counters) -> None:
    """Adds ``counters`` into ``total``: numbers add up, mappings are added name by name."""
    for name, value in counters.items():
        if isinstance(value, Mapping):
            add_counters(total.setdefault(name, {}), value)
        elif isinstance(value, int | float):
            total[name] = total.get(name, 0) + value
