"""The supervisor: opens the mount, forks workers and prefetchers, and keeps them alive.

What may live here: the life of child processes. It never opens an index, a store client or a thread
(ARCHITECTURE, Processes). Who may touch it: whoever changes how a mount starts, recovers or ends.
"""

from __future__ import annotations

from ossmount.config import MountSettings
from ossmount.fuse.contract import Callbacks, Prefetch, Serve
from ossmount.fuse.mountpoint import Mountpoint


def run_mount(
    mountpoint: Mountpoint,
    settings: MountSettings,
    *,
    source: str,
    serve: Serve,
    prefetchers: int = 0,
    prefetch: Prefetch | None = None,
    callbacks: Callbacks | None = None,
) -> int:
    """Mounts and serves until the mount ends; the exit status (0: unmounted in order).

    Call it with no LMDB environment, no store client and no thread: it forks. ``serve(number)`` is
    entered in each worker, ``prefetch(number)`` runs in each prefetcher, both under trio after the
    fork. Sockets between workers and prefetchers are made by the caller before and captured by the two
    functions. ``source`` is shown as the device in ``/proc/mounts``. Raises DeviceUnavailable,
    MountpointUnusable, MountError, and what ``serve`` raised when no worker ever came up.
    """
    raise NotImplementedError
