"""A privileged sidecar without the driver: its mount reaches other containers by propagation alone.

Two mount namespaces share a peer group as two containers of a pod do, one with ``Bidirectional``, the other
with ``HostToContainer``. Touch it when a foreground mount ends in another way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Home, command_home
from tests.support.mounting import needs_fuse, wait_for

pytestmark = [
    needs_fuse,
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes mounts and mount namespaces"),
]

TRAINER = """
mount --make-rslave "$1"
echo ready
exec sleep 100
"""


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A shared mount of the node, as the directory of an emptyDir is below kubelet's."""
    path = tmp_path / "volume"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"may not mount: {made.stderr.strip()}")
    try:
        subprocess.run(["mount", "--make-rshared", str(path)], check=True, timeout=10)
        (path / "data").mkdir()
        yield path
    finally:
        subprocess.run(["umount", "-R", "-l", str(path)], check=False, timeout=10)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with command_home(tmp_path / "home") as made:
        yield made


@contextlib.contextmanager
def ended_after(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kills the process and closes its pipes, whatever the block did."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def in_namespace(command: list[str], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Runs ``command`` in a mount namespace of its own, in the peer groups of this one (Bidirectional)."""
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation", "unchanged", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=env,
    )


def sees(process: subprocess.Popen[str], path: Path) -> bool:
    """Whether ``path`` is a mountpoint of the process's namespace; touches no mount."""
    return f" {path} " in Path(f"/proc/{process.pid}/mountinfo").read_text()


def output_in(process: subprocess.Popen[str], *command: str) -> str:
    """What ``command`` prints in the process's namespace."""
    entering = ["nsenter", "--target", str(process.pid), "--mount", *command]
    return subprocess.run(entering, capture_output=True, text=True, check=True, timeout=20).stdout


def test_another_container_sees_the_mount_come_and_go(home: Home, volume: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "x").write_text("read")
    mountpoint = volume / "data"
    words = ["mount", "--foreground", "--allow-other", f"file://{source}/", str(mountpoint)]
    sidecar_command = [sys.executable, "-m", "ossmount", *words]
    with contextlib.ExitStack() as stack:
        trainer = stack.enter_context(ended_after(in_namespace(["sh", "-ec", TRAINER, "sh", str(volume)])))
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "ready\n"
        sidecar = stack.enter_context(ended_after(in_namespace(sidecar_command, home.variables())))
        wait_for(lambda: sees(trainer, mountpoint) or sidecar.poll() is not None, 30, lambda: home.log)
        namespaces = {Path(f"/proc/{pid}/ns/mnt").readlink() for pid in ("self", trainer.pid, sidecar.pid)}
        assert len(namespaces) == 3
        assert output_in(trainer, "cat", str(mountpoint / "x")) == "read"
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait(30) == 0, home.log
        assert not sees(trainer, mountpoint)
        assert output_in(trainer, "ls", str(mountpoint)) == ""
    assert str(mountpoint) not in Path("/proc/self/mountinfo").read_text()
    assert home.left_behind() == []
