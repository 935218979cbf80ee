"""Real mounts for tests: made by a process of their own, watched with hard timeouts, always cleaned up."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ossmount.fuse import kernel_knobs
from ossmount.fuse.mountpoint import mounted_at

START_SECONDS = 20.0
END_SECONDS = 20.0

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None,
    reason="needs a usable /dev/fuse and fusermount3",
)


@dataclass
class Mounted:
    """A serving mount: its directory, its supervisor's process, and the log it writes."""

    path: Path
    supervisor: subprocess.Popen[bytes]
    log_file: Path
    connection: int | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def children(self) -> list[int]:
        """Process ids of workers and prefetchers, in the order in which they were forked."""
        return children_of(self.supervisor.pid)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        wait_for(condition, seconds, lambda: self.log)

    def unmount(self) -> int:
        """Unmounts in order; the supervisor's exit status."""
        subprocess.run(["fusermount3", "-u", str(self.path)], check=True, timeout=10)
        return self.supervisor.wait(END_SECONDS)


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split()]


def is_running(pid: int) -> bool:
    """True for a process of which any thread is neither gone nor a zombie (its files are open till then)."""
    try:
        stats = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}").exists() and is_running(pid)  # a thread went while we looked
    return any(stat.rpartition(")")[2].split()[0] not in "ZX" for stat in stats)


def waits_in_kernel(pid: int) -> bool:
    """True for a process of which a thread waits where no signal ends it."""
    stats = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return any(stat.rpartition(")")[2].split()[0] == "D" for stat in stats)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that reads the file and writes it to standard output."""
    command = [sys.executable, "-c", "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"]
    reader = subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield reader
    finally:
        reader.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # else until the connection is aborted
            reader.wait(2)
        if reader.stdout is not None:
            reader.stdout.close()


def is_mounted(path: Path) -> bool:
    """From mountinfo: a dead mount is never touched."""
    return f" {path} " in Path("/proc/self/mountinfo").read_text()


def wait_for(
    condition: Callable[[], bool], seconds: float = 10.0, explain: Callable[[], str] = lambda: ""
) -> None:
    """Polls until ``condition`` holds; fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {seconds} s\n{explain()}")
        time.sleep(0.01)


@contextlib.contextmanager
def mounted(directory: Path, factory: str, workers: int = 2, *options: str) -> Iterator[Mounted]:
    """Mounts what ``factory`` (``module:function``, see mount_process) serves on ``directory/mnt``."""
    path = directory / "mnt"
    path.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "tests.support.mount_process",
        str(path),
        factory,
        str(workers),
        *options,
    ]
    with serving_process(command, path, directory / "log") as mount:
        yield mount


@contextlib.contextmanager
def serving_process(
    command: list[str], path: Path, log_file: Path, pass_fds: tuple[int, ...] = ()
) -> Iterator[Mounted]:
    """Runs ``command`` until it prints ``serving``; afterwards nothing of it is left."""
    root = Path(__file__).parents[2]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, cwd=root, pass_fds=pass_fds, start_new_session=True
        )
    for fd in pass_fds:
        os.close(fd)
    mount = Mounted(path, process, log_file)
    try:
        _wait_until_serving(mount)
        found = mounted_at(path)
        mount.connection = None if found is None else found.connection
        yield mount
    finally:
        _clean_up(mount)


def _wait_until_serving(mount: Mounted) -> None:
    assert mount.supervisor.stdout is not None
    ready, _, _ = select.select([mount.supervisor.stdout], [], [], START_SECONDS)
    line = mount.supervisor.stdout.readline() if ready else b""
    if line.strip() != b"serving":
        pytest.fail(f"the mount does not serve: {line!r}\n{mount.log}")


def _clean_up(mount: Mounted) -> None:
    """Kills the supervisor and its children by their ids and detaches the mount.

    Who still waits for an answer of the mount then gets an error: in the kernel no signal would end the wait.
    """
    pids = [mount.supervisor.pid, *mount.children()]
    if is_mounted(mount.path):
        subprocess.run(["fusermount3", "-uz", str(mount.path)], check=False, timeout=10)
    with contextlib.suppress(subprocess.TimeoutExpired):
        mount.supervisor.wait(END_SECONDS / 4)
    if mount.supervisor.poll() is None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if mount.connection is not None:
            kernel_knobs.abort(mount.connection)
        mount.supervisor.wait(END_SECONDS)
    if mount.supervisor.stdout is not None:
        mount.supervisor.stdout.close()
