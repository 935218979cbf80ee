"""systemd's part of an automount: ``python -m tests.support.automount MOUNTPOINT FILE COMMAND...``.

Mounts autofs, lets a program of another process group read FILE below it, runs COMMAND in its own group when
the kernel asks for the mount, and says how that ended (systemd, src/core/automount.c; Linux,
Documentation/filesystems/autofs.rst). Prints what was read. Status 99: no autofs here. Call it in a mount
namespace of its own. Touch it when systemd does it in another way.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys

from ossmount import system_calls

PATIENCE = 20.0
PACKET = struct.Struct("=iiI")
"""The beginning of ``autofs_v5_packet``: protocol version, type, token of who waits."""
READY, FAIL = 0x9360, 0x9361
"""``AUTOFS_IOC_READY`` and ``AUTOFS_IOC_FAIL`` of linux/auto_fs.h."""


def mount_autofs(mountpoint: str) -> int:
    """The pipe over which the kernel asks."""
    asked, asking = os.pipe()
    data = f"fd={asking},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    try:
        system_calls.mount("test", mountpoint, "autofs", 0, data)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the reason for status 99
        sys.exit(99)
    os.close(asking)
    return asked


def main(mountpoint: str, file: str, *command: str) -> int:
    asked = mount_autofs(mountpoint)
    door = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    with subprocess.Popen(["cat", f"{mountpoint}/{file}"], start_new_session=True) as reader:
        if not select.select([asked], [], [], PATIENCE)[0]:
            reader.kill()
            sys.exit("the kernel asks for no mount")
        _, _, token = PACKET.unpack_from(os.read(asked, 4096))
        try:
            status = subprocess.run(command, timeout=PATIENCE, check=False).returncode
        except subprocess.TimeoutExpired:
            status = -1
        fcntl.ioctl(door, FAIL if status else READY, token)
        reader.wait(PATIENCE)
    os.close(door)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
