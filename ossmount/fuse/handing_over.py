"""A FUSE mount made by one process and served by another: the descriptor of ``/dev/fuse`` changes hands.

What may live here: opening the device, mount(2) with its descriptor, and the knob that only the mounting
process may turn. Whoever mounts closes his copy once it was handed over: while he keeps it, programs hang
instead of getting ENOTCONN when the serving process dies (FACTS). Who may touch it: whoever changes the
mount data.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ossmount import system_calls
from ossmount.config import MountSettings
from ossmount.errors import DeviceUnavailable, MountError
from ossmount.fuse import kernel_knobs
from ossmount.fuse.mountpoint import DEVICE, FILESYSTEM_TYPE, mounted_at, resolve


@dataclass(frozen=True, slots=True)
class Handed:
    """A mounted descriptor, and the number of its connection (minor number of the mount's device)."""

    fd: int
    connection: int


def mount_descriptor(path: Path, settings: MountSettings, source: str, owner: int) -> Handed:
    """Mounts a new connection on ``path``, read-only and for all users; nobody serves it yet.

    ``owner`` is the user id of the process that will serve. ``source`` stands in ``/proc/mounts``. Needs
    CAP_SYS_ADMIN. Whoever touches the mount before it is served waits. Raises MountError.
    """
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceUnavailable(f"{DEVICE} does not open: {error.strerror}", "run privileged") from error
    try:
        data = f"fd={device},rootmode={stat.S_IFDIR:o},user_id={owner},group_id={owner}"
        system_calls.mount(
            source,
            str(path),
            FILESYSTEM_TYPE,
            system_calls.MS_RDONLY | system_calls.MS_NOSUID | system_calls.MS_NODEV,
            f"{data},allow_other,default_permissions",
        )
        connection = _connection(path)
        kernel_knobs.set_read_ahead(connection, settings)
    except OSError as error:
        os.close(device)
        raise MountError(f"cannot mount on {path}: {error.strerror}", "run privileged") from error
    except BaseException:
        os.close(device)
        raise
    return Handed(device, connection)


def _connection(path: Path) -> int:
    mounted = mounted_at(resolve(path))
    if mounted is None:
        raise MountError(f"{path} was unmounted at once", "mount it again")
    return mounted.connection
