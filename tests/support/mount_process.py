"""A process that mounts a fake: ``python -m tests.support.mount_process MOUNTPOINT FACTORY WORKERS``.

Prints ``serving`` when the mount serves. FACTORY is ``module:function``, what ``run_mount`` calls serve.
"""

from __future__ import annotations

import importlib
import logging
import sys

from ossmount.config import MountSettings
from ossmount.errors import OssmountError
from ossmount.fuse.contract import Callbacks
from ossmount.fuse.mountpoint import Directory, check_device, check_directory, parse_mountpoint
from ossmount.fuse.supervisor import run_mount


def main(target: str, factory: str, workers: str) -> int:
    logging.basicConfig(level=logging.DEBUG, format="%(process)d %(name)s %(levelname)s %(message)s")
    logging.getLogger("pyfuse3").setLevel(logging.INFO)
    module, _, function = factory.partition(":")
    serve = getattr(importlib.import_module(module), function)
    mountpoint = parse_mountpoint(target)
    check_device()
    if isinstance(mountpoint, Directory):
        mountpoint = check_directory(mountpoint.path)
    return run_mount(
        mountpoint,
        MountSettings(workers=int(workers)),
        source="fake://tree",
        serve=serve,
        callbacks=Callbacks(on_serving=lambda: print("serving", flush=True)),  # noqa: T201
    )


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except OssmountError as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201
        sys.exit(error.exit_status)
