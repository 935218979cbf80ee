"""Telling a mount the order in which a program is going to read: the benchmark's one use of that entrance.

Change this file, and nothing else here, when the entrance changes.
"""

from __future__ import annotations

import importlib.util


def missing() -> str | None:
    """Why the order cannot be told to a mount of this version; None where it can."""
    if importlib.util.find_spec("ossmount.app.control") is None:
        return "this version's mounts take no order"
    return None


def announce(mountpoint: str, paths: list[str]) -> None:
    """Tells the mount at ``mountpoint`` that ``paths`` will be read in this order."""
    raise NotImplementedError(missing() or "not connected yet")
