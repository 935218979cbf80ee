"""The application: what the entrances (command line, Kubernetes, PyTorch) call.

What may live here: composition, the only place where concrete classes of all rooms meet, and the
functions behind the commands. Who may touch it: whoever adds a command or a room.
"""

from ossmount.app.control import ControlClient
from ossmount.app.doctor import doctor
from ossmount.app.index_generations import pull_index, push_index, refresh_index, refresh_mount, verify
from ossmount.app.inspection import build_index, index_export, index_info, index_ls, index_report
from ossmount.app.mounting import list_mounts, mount, umount
from ossmount.app.statistics import read_statistics
from ossmount.app.views import view_create, view_show
from ossmount.app.warming import warm

__all__ = [
    "ControlClient",
    "build_index",
    "doctor",
    "index_export",
    "index_info",
    "index_ls",
    "index_report",
    "list_mounts",
    "mount",
    "pull_index",
    "push_index",
    "read_statistics",
    "refresh_index",
    "refresh_mount",
    "umount",
    "verify",
    "view_create",
    "view_show",
    "warm",
]
