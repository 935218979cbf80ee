"""Programs, process trees and mounts as the benchmark sees them: everything here ends in bounded time.

What may live here: starting, timing out, killing by process id, and reading ``/proc``. Nothing that knows
a contestant or a case.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

TICKS = os.sysconf("SC_CLK_TCK")
END_SECONDS = 10.0
"""How long a process may take to end after it was asked to."""


class TooSlow(Exception):
    """A program did not answer within its time."""


class Ended(Exception):
    """A program ended before it answered, or a mount never came up."""


class Program:
    """A program that prints JSON lines and may wait for a line on its standard input before it goes on."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._log = os.memfd_create("stderr")
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kills the whole session of the program: loaders' workers must not outlive it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        os.close(self._log)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def answer(self, seconds: float) -> dict[str, Any]:
        """The next JSON line; what libraries print in between is skipped. Raises TooSlow, Ended."""
        deadline = time.monotonic() + seconds
        while True:
            line = self._line(deadline)
            if line.startswith(b"{"):
                return dict(json.loads(line))

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._pending:
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            if not ready:
                raise TooSlow("did not answer in time")
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise Ended(self.complaint())
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    @property
    def tree(self) -> ProcessTree:
        """The program and its children."""
        return ProcessTree(self._process.pid)

    def go(self) -> None:
        """Lets a program that waits go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def complaint(self) -> str:
        """The last lines of what the program wrote to standard error."""
        size = os.lseek(self._log, 0, os.SEEK_END)
        text = os.pread(self._log, 2000, max(size - 2000, 0)).decode(errors="replace")
        return text.strip() or "ended without a word"


class ProcessTree:
    """A daemon and all its descendants."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        """Process ids, the root first."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += children_of(pid)
        return found

    def cpu_seconds(self) -> float:
        """CPU time of all of them so far, of ended children too."""
        return sum(_cpu_ticks(pid) for pid in self.pids()) / TICKS

    def pss_bytes(self) -> int:
        """Proportional set size: pages that several of them share count once."""
        return sum(_pss(pid) for pid in self.pids())


def children_of(pid: int) -> list[int]:
    """Direct children, of whichever thread they are."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:"))


def is_mounted(path: Path) -> bool:
    """From mountinfo: a mount whose daemon is gone must never be touched."""
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


@contextlib.contextmanager
def daemon(
    command: Sequence[str], mountpoint: Path, environment: dict[str, str], log: Path, seconds: float = 60.0
) -> Iterator[ProcessTree]:
    """Runs a mount in the foreground; afterwards nothing of it is left. Raises Ended."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment
        )
    tree = ProcessTree(process.pid)
    try:
        _wait_mounted(process, mountpoint, log, seconds)
        yield tree
    finally:
        _end(process, tree, mountpoint)


def _wait_mounted(process: subprocess.Popen[bytes], path: Path, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_mounted(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Ended(f"did not mount: {log.read_text(errors='replace')[-600:]}")
        time.sleep(0.02)  # mounts announce themselves in mountinfo only


def _end(process: subprocess.Popen[bytes], tree: ProcessTree, mountpoint: Path) -> None:
    pids = tree.pids()
    if is_mounted(mountpoint):
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["fusermount3", "-uz", str(mountpoint)], check=False, timeout=10)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(END_SECONDS)


def drop_caches() -> bool:
    """Empties the kernel's page, dentry and inode caches; False where only root may and we are not."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def page_in(root: Path) -> None:
    """Reads every file once: the store's own disk is not what is measured."""
    for directory, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(directory, name), "rb", buffering=0) as file:  # noqa: PTH118, PTH123
                while file.read(1 << 20):
                    pass
