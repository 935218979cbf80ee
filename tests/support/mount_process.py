"""A process that mounts a fake: ``python -m tests.support.mount_process MOUNTPOINT FACTORY WORKERS``.

Prints ``serving`` when the mount serves. FACTORY is ``module:function``, what ``run_mount`` calls serve;
``--prefetch`` names a prefetcher likewise, ``--introduce`` a directory that one introduces instead (who lists
others is told names only), ``--control`` a FIFO that takes the commands ``stop``,
``statistics`` and ``swap FACTORY``; ``--grace`` is how long a swap waits for workers that do not end.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import trio

from ossmount.config import MountSettings
from ossmount.errors import OssmountError
from ossmount.fuse import supervisor, swapping
from ossmount.fuse.contract import Callbacks, Supervising
from ossmount.fuse.introducing import Introductions
from ossmount.fuse.mountpoint import Directory, check_device, check_directory, parse_mountpoint
from ossmount.model import ROOT_INODE
from tests.support.fake_filesystem import FakeFileSystem, small_tree

log = logging.getLogger(__name__)


def named(text: str) -> Any:
    module, _, function = text.partition(":")
    return getattr(importlib.import_module(module), function)


async def introduce(introductions: Introductions, directory: str, number: int) -> None:
    """Introduces the files of ``directory`` of the small tree, and says so."""
    ino = FakeFileSystem(small_tree()).lookup(ROOT_INODE, directory.encode()).ino
    introducer = introductions.introducer(number)
    assert introducer is not None
    introducer.introduce(directory.encode(), ino, 0)
    log.info("introduced %s", directory)
    await trio.sleep_forever()


def callbacks(control: str | None) -> Callbacks:
    watched = {}
    if control is not None:
        fd = os.open(control, os.O_RDWR | os.O_NONBLOCK)

        def obey(told: Supervising) -> None:
            command, _, factory = os.read(fd, 200).decode().rstrip("\n").partition(" ")
            if command == "stop":
                told.stop()
            elif command == "swap":
                begun = told.swap(named(factory), None, lambda _, error: log.info("swapped: %s", error))
                log.info("swap begun: %s", begun)
            else:
                log.info("statistics %s", dict(told.statistics()))

        watched[fd] = obey
    return Callbacks(
        on_serving=lambda: print("serving", flush=True),  # noqa: T201
        on_hangup=lambda _: log.info("hangup"),
        on_readable=watched,
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("mountpoint")
    parser.add_argument("factory", type=named)
    parser.add_argument("workers", type=int)
    parser.add_argument("--prefetch", type=named)
    parser.add_argument("--introduce")
    parser.add_argument("--control")
    parser.add_argument("--grace", type=float, default=swapping.GRACE_SECONDS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG, format="%(process)d %(name)s %(levelname)s %(message)s")
    logging.getLogger("pyfuse3").setLevel(logging.INFO)
    swapping.GRACE_SECONDS = arguments.grace
    mountpoint = parse_mountpoint(arguments.mountpoint)
    check_device()
    if isinstance(mountpoint, Directory):
        mountpoint = check_directory(mountpoint.path)
    introductions, prefetch = None, arguments.prefetch
    if arguments.introduce is not None:
        introductions = Introductions(1, Path(arguments.mountpoint))
        prefetch = partial(introduce, introductions, arguments.introduce)
    return supervisor.run_mount(
        mountpoint,
        MountSettings(workers=arguments.workers),
        source="fake://tree",
        serve=arguments.factory,
        prefetchers=int(prefetch is not None),
        prefetch=prefetch,
        introductions=introductions,
        callbacks=callbacks(arguments.control),
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OssmountError as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201
        sys.exit(error.exit_status)
