"""The kernel's knobs of one FUSE connection, through sysfs.

What may live here: reading and setting them. Who may touch it: whoever measured that another one matters
(FACTS: read-ahead 128 → 1024 KiB took a sequential read from 464 MB/s to 4 GB/s). How many requests are
outstanding is told with the first answer: :mod:`ossmount.fuse.hand_shake`.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from ossmount import system_calls
from ossmount.config import MountSettings

log = logging.getLogger(__name__)

SYSFS = Path("/sys")


def set_read_ahead(connection: int, settings: MountSettings, sysfs: Path = SYSFS) -> bool:
    """Sets how far the kernel reads ahead in a file; why it cannot be set is logged.

    ``connection`` is the minor number of the mount's device. A process without privileges may find that
    whoever mounted for it has set it.
    """
    knob, wanted = sysfs / f"class/bdi/0:{connection}/read_ahead_kb", str(settings.kernel_read_ahead >> 10)
    try:
        if knob.read_text().strip() != wanted:
            knob.write_text(wanted)
    except OSError as error:
        log.warning(
            "the kernel's read-ahead stays as it is, large files will be read more slowly: %s: %s; mount as "
            "root, in a container with a writable /sys",
            knob,
            error.strerror,
        )
        return False
    return True


def abort(connection: int, sysfs: Path = SYSFS) -> None:
    """Ends the connection, where that is allowed: who waits for an answer gets an error."""
    _mount_control(sysfs / "fs/fuse/connections")
    with suppress(OSError):
        (sysfs / "fs/fuse/connections" / str(connection) / "abort").write_text("1")


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
