"""The kernel's knobs of one FUSE connection, through sysfs.

What may live here: reading and setting them. Who may touch it: whoever measured that another one matters
(FACTS: read-ahead 128 → 1024 KiB took a sequential read from 464 MB/s to 4 GB/s; 12 → 512 outstanding
requests took 32 readers at 20 ms from 389 to 1266 files/s).
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ossmount import system_calls
from ossmount.config import MountSettings

log = logging.getLogger(__name__)

SYSFS = Path("/sys")

CONGESTION_SHARE = 0.75
"""Congestion threshold as a share of max_background: the kernel's own default (fs/fuse/inode.c)."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One file and the value it should have."""

    path: Path
    value: int

    def set(self) -> str:
        """Writes the value; "" or why it could not be written."""
        try:
            self.path.write_text(str(self.value))
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        return ""

    def current(self) -> int | None:
        """The value now, None where it cannot be read."""
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return None


def knobs(connection: int, settings: MountSettings, sysfs: Path = SYSFS) -> list[Knob]:
    """What ``settings`` ask of the connection with that number (minor number of the mount's device)."""
    control = sysfs / "fs/fuse/connections" / str(connection)
    return [
        Knob(sysfs / f"class/bdi/0:{connection}/read_ahead_kb", settings.kernel_read_ahead >> 10),
        Knob(control / "max_background", settings.max_background),
        Knob(control / "congestion_threshold", int(settings.max_background * CONGESTION_SHARE)),
    ]


def apply(connection: int, settings: MountSettings, sysfs: Path = SYSFS) -> list[str]:
    """Sets the knobs; what could not be set and why, which is also logged in one line."""
    _mount_control(sysfs / "fs/fuse/connections")
    problems = [problem for knob in knobs(connection, settings, sysfs) if (problem := knob.set())]
    if problems:
        log.warning(
            "the kernel's read-ahead settings stay as they are, reads will be slower: %s; mount as root, or "
            "have root mount fusectl on /sys/fs/fuse/connections and set them",
            ", ".join(problems),
        )
    return problems


def abort(connection: int, sysfs: Path = SYSFS) -> None:
    """Ends the connection, where that is allowed: who waits for an answer gets an error."""
    _mount_control(sysfs / "fs/fuse/connections")
    Knob(sysfs / "fs/fuse/connections" / str(connection) / "abort", 1).set()


def _mount_control(directory: Path) -> None:
    """The control files are a file system of their own, which systemd mounts and containers do not."""
    if os.geteuid() != 0 or not directory.is_dir() or any(directory.iterdir()):
        return
    try:
        system_calls.mount("fusectl", str(directory), "fusectl")
    except OSError as error:
        log.debug("fusectl cannot be mounted: %s", error)


def connection_of(device: int, proc: Path = Path("/proc")) -> int | None:
    """The connection number behind a descriptor of ``/dev/fuse``, where the kernel tells (``fdinfo``)."""
    text = (proc / f"self/fdinfo/{device}").read_text()
    match = re.search(r"^fuse_connection:\s*(\d+)", text, re.MULTILINE)
    return int(match[1]) if match else None
