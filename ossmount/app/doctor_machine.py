"""``ossmount doctor``: what this machine has and lacks, and what to do about it.

What may live here: checks of the machine; those of a source are in :mod:`ossmount.app.doctor_source`. A
check never raises, never changes anything that stays, and never shows a secret. Who may touch it: whoever
learns of one more thing that keeps users from mounting, or from what a mount promises.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ossmount.app.cache_place import cache_path
from ossmount.app.finding import Finding
from ossmount.config import CacheSettings, MountSettings, Settings
from ossmount.places import is_missing

RESEND_KERNEL = (6, 9)
"""First Linux that knows ``FUSE_NOTIFY_RESEND``: unanswered requests are handed out again after a crash."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the checks look; tests point it at a tree of their own."""

    device: Path = Path("/dev/fuse")
    fuse_conf: Path = Path("/etc/fuse.conf")
    bdi: Path = Path("/sys/class/bdi")
    status: Path = Path("/proc/self/status")
    damon: Path = Path("/sys/kernel/mm/damon/admin/kdamonds")
    release: str = ""
    """Kernel release; "" for this kernel's."""
    euid: int | None = None
    """Effective user; None for this process's."""

    @property
    def root(self) -> bool:
        """True for the superuser."""
        return (os.geteuid() if self.euid is None else self.euid) == 0


def doctor(source: str | None, settings: Settings, machine: Machine | None = None) -> Iterator[Finding]:
    """Findings one after the other, the machine's first; those of ``source`` where it is given."""
    here = machine or Machine()
    yield check_device(here)
    yield check_fusermount(here)
    yield check_allow_other(here, settings.mount)
    yield check_kernel(here)
    yield check_read_ahead(here)
    yield check_page_cache(here)
    yield check_cache(settings.cache)
    if source is not None:
        # The store clients take a moment to import, which the machine's checks need not wait for.
        from ossmount.app.doctor_source import check_source

        yield from check_source(source, settings)


def check_device(machine: Machine) -> Finding:
    """``/dev/fuse`` exists and opens."""
    name = "FUSE device"
    if is_missing(machine.device):
        return Finding(
            name,
            False,
            f"{machine.device} is not there",
            "load the kernel module ('modprobe fuse'); start a container with --device /dev/fuse"
            " --cap-add SYS_ADMIN",
        )
    try:
        os.close(os.open(machine.device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Finding(
            name,
            False,
            f"{machine.device} does not open: {error.strerror}",
            "as root: 'chmod 0666 /dev/fuse'; in a container allow the device",
        )
    return Finding(name, True, f"{machine.device} opens")


def check_fusermount(machine: Machine) -> Finding:
    """``fusermount3`` is there, and this process may gain the privilege it needs."""
    name = "fusermount3"
    path = shutil.which("fusermount3")
    if path is None:
        return Finding(name, False, "not on PATH", "install the package fuse3 ('apt-get install fuse3')")
    if machine.root:
        return Finding(name, True, f"{path} (root mounts without it)")
    if re.search(r"^NoNewPrivs:\s*1", _text(machine.status), re.MULTILINE):
        return Finding(
            name,
            False,
            f"{path} cannot gain privileges: no_new_privs is set for this process",
            "allow privilege escalation (allowPrivilegeEscalation: true), or have a privileged process mount",
        )
    return Finding(name, True, path)


def check_allow_other(machine: Machine, settings: MountSettings) -> Finding:
    """``user_allow_other``, which ``--allow-other`` needs unless root mounts."""
    name = "allow_other"
    allowed = re.search(r"^\s*user_allow_other\b", _text(machine.fuse_conf), re.MULTILINE) is not None
    if machine.root or allowed:
        return Finding(name, True, "other users may be let in with --allow-other")
    return Finding(
        name,
        False if settings.allow_other else None,
        f"{machine.fuse_conf} has no user_allow_other: only this user can read what it mounts",
        f"as root: 'echo user_allow_other >> {machine.fuse_conf}', if --allow-other is wanted",
    )


def check_kernel(machine: Machine) -> Finding:
    """A kernel that hands out requests again after a worker has died."""
    release = machine.release or os.uname().release
    numbers = re.match(r"(\d+)\.(\d+)", release)
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if version >= RESEND_KERNEL:
        return Finding("kernel", True, f"Linux {release}: readers do not notice a worker that dies")
    return Finding(
        "kernel",
        None,
        f"Linux {release}: what a dying worker had to answer stays unanswered",
        "take Linux 6.9 or newer where that matters; everything else works",
    )


def check_read_ahead(machine: Machine) -> Finding:
    """The kernel's read-ahead may be set."""
    name = "kernel read-ahead"
    knob = next(iter(sorted(machine.bdi.glob("*/read_ahead_kb"))), None)
    if knob is None or not os.access(knob, os.W_OK):
        return Finding(
            name,
            None,
            "the kernel's read-ahead may not be set by this user: it stays at 128 KiB",
            "mount as root where large files are read from start to end",
        )
    return Finding(name, True, "the kernel's read-ahead may be set")


def check_page_cache(machine: Machine) -> Finding:
    """No DAMON scheme takes idle pages while memory is free: they spare later epochs their requests.

    Those do whose action is ``pageout`` (Linux, Documentation/admin-guide/mm/damon/usage).
    """
    name = "page cache"
    states = sorted(machine.damon.glob("*/state"))
    if any(not os.access(state, os.R_OK) for state in states):
        return Finding(
            name,
            None,
            f"{machine.damon} is only shown to root: pages may be taken back while memory is free",
            "'ossmount doctor' as root tells, where later epochs still read from the mount",
        )
    for state in states:
        actions = state.parent.glob("contexts/*/schemes/*/action")
        if _text(state).strip() == "on" and any(_text(action).strip() == "pageout" for action in actions):
            return Finding(
                name,
                None,
                "the kernel takes back pages that were idle for a while: later epochs read some files again",
                f"as root: 'echo off > {state}', where that is yours to decide; 'vmtouch -dl DIRECTORY' keeps"
                " the files of a directory in memory",
            )
    return Finding(name, True, "no DAMON scheme takes idle pages back")


def check_cache(settings: CacheSettings) -> Finding:
    """The cache directory takes files and has room for what it may grow to."""
    name = "cache"
    directory = cache_path(settings)
    existing = next(path for path in (directory, *directory.parents) if not is_missing(path))
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(
            name,
            False,
            f"{directory} takes no files: {error.strerror}",
            "name a writable directory with --cache-dir",
        )
    room = (
        f"{directory}: {free / 2**30:,.1f} GiB free, --cache-size is {settings.cache_size / 2**30:,.1f} GiB"
    )
    if free < settings.cache_size:
        return Finding(name, None, room, "choose a smaller --cache-size or another --cache-dir")
    return Finding(name, True, room)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
