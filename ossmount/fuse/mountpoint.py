"""Where a mount appears: a directory, or a descriptor that somebody else mounted already.

What may live here: what can be told of mountpoints from ``/proc/self/mountinfo``, and unmounting. Nothing
here may ``stat`` a mountpoint that could be dead: it may hang (FACTS). Who may touch it: whoever changes
the checks before a mount or ``ossmount umount``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ossmount import system_calls
from ossmount.errors import DeviceUnavailable, MountpointUnusable

FILESYSTEM_TYPE = "fuse.ossmount"
"""The type in ``/proc/mounts`` and fstab."""

DEVICE = Path("/dev/fuse")
MOUNTINFO = Path("/proc/self/mountinfo")

DEVICE_NUMBER = os.makedev(10, 229)
"""FUSE_MINOR of linux/miscdevice.h."""

MOMENTS = (0.01, 0.1)
"""Seconds after which a busy mount is tried again: a prefetcher may just be listing a directory."""

PROBE_SECONDS = 3.0
"""How long a probing process may wait for an answer of a mount that may be dead."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory to mount on."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An inherited ``/dev/fuse`` descriptor that is mounted already; whoever mounted it unmounts it."""

    fd: int

    def __str__(self) -> str:
        return f"/dev/fd/{self.fd}"


Mountpoint = Directory | Descriptor


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo. ``connection`` is the minor device number, which names the FUSE connection."""

    path: Path
    filesystem: str
    source: str
    connection: int


def parse_mountpoint(text: str) -> Mountpoint:
    """``/dev/fd/N`` is a descriptor, everything else a directory."""
    match = re.fullmatch(r"/dev/fd/(\d+)", text)
    return Descriptor(int(match[1])) if match else Directory(Path(text))


def all_mounts(mountinfo: Path = MOUNTINFO) -> Iterator[Mounted]:
    """Every mount of this mount namespace, in the order in which they were made."""
    for line in mountinfo.read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        fields, (filesystem, source) = before.split(b" "), after.split(b" ")[:2]
        yield Mounted(
            path=Path(os.fsdecode(_unescape(fields[4]))),
            filesystem=filesystem.decode(),
            source=_unescape(source).decode(errors="surrogateescape"),
            connection=int(fields[2].partition(b":")[2]),
        )


def _unescape(field: bytes) -> bytes:
    r"""Space, tab, newline and backslash stand as ``\040`` and so on (proc(5))."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def mounts() -> list[Mounted]:
    """The ossmount mounts of this mount namespace, live or dead."""
    return [mounted for mounted in all_mounts() if mounted.filesystem == FILESYSTEM_TYPE]


def elsewhere(connection: int, proc: Path = Path("/proc")) -> Iterator[int]:
    """A process of each other mount namespace that has the mount; those of other users only root sees.

    A container that was started while a directory above was mounted into it has a copy of its own, which
    keeps the mount alive when it is unmounted here.
    """
    seen = {(proc / "self/ns/mnt").readlink()}
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):
            namespace = (process / "ns/mnt").readlink()
            if namespace in seen:
                continue
            seen.add(namespace)
            mounts_there = all_mounts(process / "mountinfo")
            if (FILESYSTEM_TYPE, connection) in [(one.filesystem, one.connection) for one in mounts_there]:
                yield int(process.name)


def mounted_at(path: Path) -> Mounted | None:
    """The uppermost mount on exactly ``path``, which must be absolute."""
    found = [mounted for mounted in all_mounts() if mounted.path == path]
    return found[-1] if found else None


def resolve(path: Path) -> Path:
    """``path`` absolute and without symbolic links, touching no mount that sits on it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps ".."
    if mounted_at(absolute) is not None:
        return absolute
    in_real_parent = Path(os.path.realpath(absolute.parent)) / absolute.name
    if mounted_at(in_real_parent) is not None:
        return in_real_parent
    return Path(os.path.realpath(in_real_parent))


def is_dead(path: Path) -> bool:
    """True when the mount on ``path`` has lost its daemon, or its daemon answers nothing.

    Another process asks, and may be left behind waiting: this one never touches the mount.
    """
    probe = subprocess.Popen(  # noqa: S603 - a fixed program, the path is no option
        ["stat", "--file-system", "--", str(path)],  # noqa: S607 - coreutils is everywhere
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return probe.wait(PROBE_SECONDS) != 0
    except subprocess.TimeoutExpired:
        probe.kill()
        return True


def check_device() -> None:
    """Raises DeviceUnavailable where this process cannot mount at all."""
    if not DEVICE.exists():
        raise DeviceUnavailable(
            f"there is no {DEVICE}", "run 'modprobe fuse', or start the container with --device /dev/fuse"
        )
    if DEVICE.stat().st_rdev != DEVICE_NUMBER:
        raise DeviceUnavailable(
            f"{DEVICE} is not the FUSE device", "start the container with --device /dev/fuse"
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise DeviceUnavailable(
            f"{DEVICE} may not be opened by this user", "run 'chmod 0666 /dev/fuse' as root, or mount as root"
        )
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise DeviceUnavailable("fusermount3 is not installed", "install the package fuse3, or mount as root")
    if re.search(r"^NoNewPrivs:\s*1", Path("/proc/self/status").read_text(), re.MULTILINE):
        raise DeviceUnavailable(
            "this process may not gain privileges (no_new_privs), which fusermount3 needs",
            "allow privilege escalation, mount as root, or hand over a mounted descriptor (/dev/fd/N)",
        )


def check_directory(path: Path, clean: bool = False) -> Directory:
    """The directory to mount on, or MountpointUnusable with what to do.

    ``clean`` unmounts a dead ossmount mount that is in the way.
    """
    target = resolve(path)
    mounted = mounted_at(target)
    if mounted is not None and mounted.filesystem == FILESYSTEM_TYPE:
        _refuse_or_clean(target, mounted, clean)
    elif mounted is not None and mounted.filesystem.startswith("fuse") and is_dead(target):
        raise MountpointUnusable(
            f"{target} is a dead {mounted.filesystem} mount", f"clean it with 'umount --lazy {target}'"
        )
    _check_plain(target)
    return Directory(target)


@contextmanager
def making_it_alone(mountpoint: Mountpoint) -> Iterator[None]:
    """Nobody else makes a mount on this directory meanwhile, and nobody has since it was checked.

    Two would lie upon each other, and be one to everybody who asks for the mount there. The directory itself
    is locked; where it cannot be, the second look has to do. Raises MountpointUnusable.
    """
    if isinstance(mountpoint, Descriptor):
        yield
        return
    path = mountpoint.path
    with ExitStack() as stack:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Not by closing alone: children that are forked meanwhile hold the descriptor, too.
            stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
        except BlockingIOError:
            raise MountpointUnusable(
                f"another process is just mounting on {path}", "see 'ossmount list' in a moment"
            ) from None
        except OSError:
            pass
        check_directory(path)
        yield


def _refuse_or_clean(target: Path, mounted: Mounted, clean: bool) -> None:
    if not is_dead(target):
        raise MountpointUnusable(
            f"{target} already shows {mounted.source}", f"unmount it first: 'ossmount umount {target}'"
        )
    if not clean:
        raise MountpointUnusable(
            f"{target} is a dead mount of {mounted.source}",
            f"clean it with 'ossmount umount {target}', or mount with --clean",
        )
    unmount(target, lazy=True)


def _check_plain(target: Path) -> None:
    """A directory that exists, is empty, and may be mounted on by this user."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        raise MountpointUnusable(f"{target} does not exist", f"make it: 'mkdir -p {target}'") from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise MountpointUnusable(
                f"{target} lies in a dead mount", f"clean it with 'umount --lazy {target}'"
            ) from error
        raise MountpointUnusable(f"{target}: {error.strerror}", "choose another directory") from error
    if not stat.S_ISDIR(mode):
        raise MountpointUnusable(f"{target} is not a directory", "name a directory to mount on")
    _check_empty(target)
    if os.geteuid() != 0 and not os.access(target, os.W_OK):
        raise MountpointUnusable(
            f"{target} may not be written by this user", "mount on a directory of your own"
        )


def _check_empty(target: Path) -> None:
    try:
        with os.scandir(target) as entries:
            first = next(entries, None)
    except PermissionError as error:
        raise MountpointUnusable(f"{target} may not be read", "mount on a directory of your own") from error
    if first is not None:
        raise MountpointUnusable(
            f"{target} is not empty (it holds {first.name!r})", "name an empty directory to mount on"
        )


def unmount(path: Path, lazy: bool = False) -> None:
    """Unmounts what sits on ``path``, live or dead. ``lazy`` detaches a busy one.

    Raises MountpointUnusable.
    """
    target = resolve(path)
    if mounted_at(target) is None:
        raise MountpointUnusable(f"nothing is mounted on {target}", "see 'ossmount list'")
    umount = _umount_directly if os.geteuid() == 0 else _umount_by_helper
    problem = umount(target, lazy)
    for pause in MOMENTS:
        if os.strerror(errno.EBUSY) not in problem:
            break
        time.sleep(pause)
        problem = umount(target, lazy)
    if problem:
        raise MountpointUnusable(
            f"{target} cannot be unmounted: {problem}", "close what uses it, or use --lazy"
        )


def _umount_directly(target: Path, lazy: bool) -> str:
    try:
        system_calls.umount(str(target), system_calls.MNT_DETACH if lazy else 0)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _umount_by_helper(target: Path, lazy: bool) -> str:
    """fusermount3 is set-uid root and unmounts what its caller mounted."""
    program = shutil.which("fusermount3")
    if program is None:
        return "fusermount3 is not installed"
    flags = ["-u", "-z"] if lazy else ["-u"]
    command = [program, *flags, "--", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - as above
    return "" if done.returncode == 0 else (done.stderr.strip() or f"status {done.returncode}")
