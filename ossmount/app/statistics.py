"""Statistics across processes: what children publish (:mod:`ossmount.app.publishing`), put together.

A child writes ``stats/<kind>-<pid>.json`` in the runtime directory twice a second, and only if
something changed; a dead child's file stays, so sums never run backwards. Counters nest by room
(``{"store": {"get_requests": 12}, …}``) and add up by name, but for the gauges of
:mod:`ossmount.app.metrics_table`. Lists are examples (keys being fetched): of living children only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ossmount.app.metrics_table import Merge, merge_of
from ossmount.app.runtime import runtime_directory
from ossmount.errors import MountError
from ossmount.fuse.mountpoint import resolve
from ossmount.places import is_directory

Counters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What one child published, and whether it lives."""

    kind: str
    living: bool
    counters: Counters


def statistics_directory(mountpoint: str) -> Path:
    """Where the children of the mount publish. Raises MountError."""
    directory = runtime_directory(str(resolve(Path(mountpoint)))) / "stats"
    if not is_directory(directory):
        raise MountError(
            f"no ossmount mount of this user at {mountpoint}", "see 'ossmount list' for what is mounted"
        )
    return directory


def read_statistics(mountpoint: str) -> dict[str, Any]:
    """All children of the mount together, dead ones included. Raises MountError."""
    return sum_statistics(statistics_directory(mountpoint))


def sum_statistics(directory: Path) -> dict[str, Any]:
    """All files of ``directory`` together."""
    return merged(children_in(directory))


def children_in(directory: Path) -> list[Told]:
    """What each child, living or dead, published last."""
    return list(_children_in(directory))


def _children_in(directory: Path) -> Iterator[Told]:
    for path in sorted(directory.glob("[!.]*.json")):
        kind, _, pid = path.stem.rpartition("-")
        try:
            yield Told(kind, Path("/proc", pid).exists(), json.loads(path.read_bytes()))
        except (OSError, ValueError):
            continue  # being replaced, or of a child killed while the disk was full


def merged(children: list[Told]) -> dict[str, Any]:
    """The counters of ``children`` together."""
    total: dict[str, Any] = {}
    for child in children:
        _merge(total, child.counters, child.living, "")
    return total


def _merge(total: dict[str, Any], counters: Counters, living: bool, above: str) -> None:
    for name, value in counters.items():
        if isinstance(value, Mapping):
            _merge(total.setdefault(name, {}), value, living, f"{above}{name}.")
        elif isinstance(value, int | float):
            how = merge_of(above + name)
            before = total.setdefault(name, 0)
            if how is Merge.SUM or (how is Merge.LIVING and living):
                total[name] = before + value
            elif how is Merge.LARGEST and living:
                total[name] = max(before, value)
        elif isinstance(value, list) and living:
            total[name] = [*total.get(name, []), *value]
