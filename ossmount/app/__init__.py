"""The application: what the entrances (command line, Kubernetes, PyTorch) call.

What may live here: composition, the only place where concrete classes of all rooms meet, and the
functions behind the commands. Who may touch it: whoever adds a command or a room.

Each name is loaded when it is first used (PEP 562): asking a mount for its statistics, or telling it an
order from a training program, need not load all that a mount is made of.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ossmount.app.control import ControlClient as ControlClient
    from ossmount.app.doctor_machine import doctor as doctor
    from ossmount.app.index_generations import pull_index as pull_index
    from ossmount.app.index_generations import push_index as push_index
    from ossmount.app.index_generations import refresh_index as refresh_index
    from ossmount.app.index_generations import refresh_mount as refresh_mount
    from ossmount.app.index_generations import verify as verify
    from ossmount.app.inspection import build_index as build_index
    from ossmount.app.inspection import index_export as index_export
    from ossmount.app.inspection import index_info as index_info
    from ossmount.app.inspection import index_ls as index_ls
    from ossmount.app.inspection import index_report as index_report
    from ossmount.app.mounting import mount as mount
    from ossmount.app.mounts import list_mounts as list_mounts
    from ossmount.app.mounts import umount as umount
    from ossmount.app.statistics import read_statistics as read_statistics
    from ossmount.app.views import view_create as view_create
    from ossmount.app.views import view_show as view_show
    from ossmount.app.warming import warm as warm
else:
    _MODULES = {
        "ControlClient": "control",
        "doctor": "doctor_machine",
        "build_index": "inspection",
        "index_export": "inspection",
        "index_info": "inspection",
        "index_ls": "inspection",
        "index_report": "inspection",
        "list_mounts": "mounts",
        "mount": "mounting",
        "pull_index": "index_generations",
        "push_index": "index_generations",
        "read_statistics": "statistics",
        "refresh_index": "index_generations",
        "refresh_mount": "index_generations",
        "umount": "mounts",
        "verify": "index_generations",
        "view_create": "views",
        "view_show": "views",
        "warm": "warming",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
