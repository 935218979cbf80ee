"""The sidecar as an unprivileged container: user 65534, no capability, no new privileges, read-only root, in
mount, pid and network namespaces of its own, under the filter of system calls that runtimes have by default.
Touch it when the sidecar needs something of its container.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.mounting import children_of, is_running, wait_for

ROOT = Path(__file__).parents[2]
USER = 65534


IN_CONTAINER = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/root /mnt/dir
mount --bind "$EMPTY_DIR" /mnt/dir
mount --rbind / /mnt/root
mkdir -p /mnt/root/tmp
mount -t tmpfs -o mode=1777 tmpfs /mnt/root/media
mkdir /mnt/root/media/ossmount-tmp
mount --bind /mnt/dir /mnt/root/media/ossmount-tmp
if [ -n "$CLOSED" ]; then
  mkdir -p /mnt/python
  mount --bind "$PYTHON" /mnt/python
  mount -t tmpfs -o mode=755 tmpfs "/mnt/root$CLOSED"
  mkdir -p "/mnt/root$PYTHON"
  mount --bind /mnt/python "/mnt/root$PYTHON"
fi
mount -t proc proc /mnt/root/proc
mount -o remount,bind,ro /mnt/root
mount -o remount,ro /mnt/root/media
exec chroot /mnt/root setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all "$@"
"""

EXCHANGE = "/media/ossmount-tmp"
SECCOMP = (sys.executable, str(ROOT / "tests" / "support" / "seccomp.py"))


def container(
    empty_dir: Path,
    *command: str,
    environment: Mapping[str, str] | None = None,
    seccomp: tuple[str, ...] = SECCOMP,
) -> list[str]:
    """The command line that runs ``command`` in the container, where the emptyDir is EXCHANGE."""
    python = {"PYTHON": sys.base_prefix, "CLOSED": closed_to_others(Path(sys.base_prefix))}
    variables = {"EMPTY_DIR": str(empty_dir), **python, **(environment or {})}
    namespaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
    return [
        *("env", "-i", f"PATH={os.environ['PATH']}", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1"),
        *(f"{name}={value}" for name, value in variables.items()),
        *namespaces,
        *("sh", "-c", IN_CONTAINER, "sh", *seccomp, *command),
    ]


def closed_to_others(path: Path) -> str:
    """The first directory above ``path`` that others may not enter, "" where there is none."""
    closed = [above for above in reversed(path.parents) if not above.stat().st_mode & 0o001]
    return str(closed[0]) if closed else ""


@dataclass
class RunningSidecar:
    """A sidecar in its container, seen from the node."""

    process: subprocess.Popen[bytes]
    empty_dir: Path
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def main(self) -> int:
        """Pid of the sidecar itself on the node (the first process of its namespace)."""
        [pid] = children_of(self.process.pid)
        return pid

    def supervisors(self) -> list[int]:
        main = self.main()
        found: list[int] = []
        for task in Path(f"/proc/{main}/task").iterdir():  # a thread for each volume starts its process
            found += map(int, (task / "children").read_text().split())
        return [pid for pid in found if is_running(pid)]

    def workers(self, supervisor: int) -> list[int]:
        return children_of(supervisor)

    def file(self, volume: str, name: str) -> Any:
        """What the sidecar wrote about a volume; None where it has not."""
        path = self.empty_dir / ".volumes" / volume / "sidecar" / name
        return json.loads(path.read_text()) if path.exists() else None

    def is_serving(self, volume: str) -> bool:
        return self.file(volume, "status.json") is not None

    def wait_until_serving(self, volume: str) -> None:
        wait_for(lambda: self.is_serving(volume), 30, lambda: self.log)

    def check(self) -> subprocess.CompletedProcess[str]:
        """The startup probe, run as kubelet does: in the container's namespaces, as its user."""
        command = [sys.executable, "-m", "ossmount", "sidecar", "--check", "--directory", EXCHANGE]
        entering = ["nsenter", "--target", str(self.main()), "--mount", "--pid", "--net", "--root", "--wd=/"]
        as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*entering, *as_user, *command],
            capture_output=True,
            text=True,
            timeout=20,
            env=variables,
            check=False,
        )

    def terminate(self) -> int:
        """SIGTERM to the sidecar; its exit status."""
        os.kill(self.main(), signal.SIGTERM)
        return self.process.wait(30)


@contextlib.contextmanager
def sidecar(
    empty_dir: Path, log_file: Path, environment: Mapping[str, str] | None = None
) -> Iterator[RunningSidecar]:
    """A sidecar that runs; at the end nothing of it does."""
    command = container(
        empty_dir,
        *(sys.executable, "-m", "ossmount", "sidecar", "--directory", EXCHANGE),
        environment={"OSSMOUNT_WORKERS": "2", **(environment or {})},
    )
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
    running = RunningSidecar(process, empty_dir, log_file)
    try:
        wait_for(lambda: len(children_of(process.pid)) == 1, 10, lambda: running.log)
        yield running
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the namespace's first process dies with unshare
            process.wait(20)
