"""Mounts that are there: listing and ending them. Nothing here can make one, so little is loaded."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ossmount.app.logs import say
from ossmount.app.runtime import read_record, remove_record
from ossmount.errors import MountpointUnusable
from ossmount.fuse import kernel_knobs
from ossmount.fuse.mountpoint import (
    FILESYSTEM_TYPE,
    elsewhere,
    is_dead,
    mounted_at,
    mounts,
    resolve,
    unmount,
)


@dataclass(frozen=True, slots=True)
class MountStatus:
    """A live (or dead) ossmount mount. ``started`` in seconds since the epoch, ``generation`` of its index.

    Both are 0 where nobody knows.
    """

    mountpoint: str
    source: str
    index: str
    supervisor: int
    started: float
    generation: int


def umount(mountpoint: str, lazy: bool = False) -> None:
    """Unmounts ``mountpoint``, live or dead, and waits for its daemon to end.

    Raises MountpointUnusable, also for a mount of others: root could detach any disk, even ``/``.
    """
    target = resolve(Path(mountpoint))
    mounted = mounted_at(target)
    if mounted is not None and mounted.filesystem != FILESYSTEM_TYPE:
        raise MountpointUnusable(
            f"{target} is no mount of ossmount but one of type {mounted.filesystem}",
            "see 'ossmount list'; others end with umount(8)",
        )
    abandon(target)
    unmount(target, lazy)
    record = read_record(str(target))
    if record is None:
        return
    if not _wait_for_end(record.supervisor):
        holders = sorted(elsewhere(mounted.connection)) if mounted is not None else []
        say(f"warning: {_still_ending(record.supervisor, target, holders)}", "text")
    elif read_record(str(target)) == record:
        remove_record(str(target))  # of a daemon that was killed and could not do so itself


def _still_ending(supervisor: int, target: Path, holders: Sequence[int]) -> str:
    why = ""
    if holders:
        pids = ", ".join(map(str, holders))
        why = f": containers or services begun meanwhile still have the mount (processes {pids}); end those"
    return f"the daemon {supervisor} of {target} is still ending{why}"


def abandon(target: Path) -> None:
    """Ends the connection of a mount on ``target`` whose daemon was killed: programs get errors.

    A thread of a killed process that waits in the kernel, for instance in a push, keeps ``/dev/fuse`` open,
    and so programs waiting for answers that nobody will give; to detach the mount would not end that.
    """
    mounted, record = mounted_at(target), read_record(str(target))
    if mounted is None or mounted.filesystem != FILESYSTEM_TYPE or record is None:
        return
    if _wait_for_end(record.supervisor, 0) and is_dead(target):
        kernel_knobs.abort(mounted.connection)


END_SECONDS = 10.0
"""Workers drain in at most a few seconds; who waits longer has a hung store, and is told."""


def _wait_for_end(pid: int, seconds: float = END_SECONDS) -> bool:
    """Waits until the process has ended; False when it has not after ``seconds``."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        readable, _, _ = select.select([descriptor], [], [], seconds)
        return bool(readable)
    finally:
        os.close(descriptor)


def list_mounts() -> list[MountStatus]:
    """The ossmount mounts of this mount namespace."""
    statuses = []
    for mounted in mounts():
        record = read_record(str(mounted.path))
        statuses.append(
            MountStatus(
                mountpoint=str(mounted.path),
                source=mounted.source,
                index=record.index if record else "",
                supervisor=record.supervisor if record else 0,
                started=record.started if record else 0.0,
                generation=record.generation if record else 0,
            )
        )
    return statuses
