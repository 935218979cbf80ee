"""Telling a mount the order in which a program is going to read: the benchmark's one use of that entrance.

Change this file, and nothing else here, when the entrance changes.
"""

from __future__ import annotations

from ossmount.app.control import ControlClient


def announce(mountpoint: str, paths: list[str]) -> None:
    """Tells the mount at ``mountpoint`` that ``paths`` will be read in this order. Raises MountError."""
    with ControlClient(mountpoint) as mount:
        mount.order(paths)
