"""kill -9 of the processes of a mount while eight DataLoader workers read: nobody notices.

Touch it when a mount gets processes of another kind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ossmount.fuse.mountpoint import mounted_at
from tests.servers.oss_server import OssServer
from tests.support.buckets import fill_oss, oss_options
from tests.support.command import CommandMount, Home
from tests.support.images import expected, image_set
from tests.support.mounting import children_of, needs_fuse, wait_for
from tests.support.system_calls import copied_descriptor
from tests.support.trainer import Trainer

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server, pytest.mark.torch]

LATENCY = 0.05
"""Seconds for every request: an epoch without readahead takes long enough to be hit in the middle."""

KILLS = 4


@pytest.fixture
def slow_oss(oss: OssServer) -> OssServer:
    """The image set behind a slow server."""
    fill_oss(oss, "images", image_set())
    oss.state.latency = LATENCY
    return oss


@contextlib.contextmanager
def killing(victim: Callable[[], list[int]], oss: OssServer) -> Iterator[list[int]]:
    """While the block runs, kills one victim after every tenth request; gives who was killed."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        due = oss.requests.get("GET", 0) + 5
        while len(killed) < KILLS and not over.wait(0.005):
            if oss.requests.get("GET", 0) < due:
                continue
            for pid in victim()[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            due = oss.requests.get("GET", 0) + 10

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def processes_of(mount: CommandMount, kind: str) -> Callable[[], list[int]]:
    """Living children of ``kind``, newest first, so that each kill hits another one."""
    return lambda: sorted(mount.children(kind), reverse=True)


@pytest.mark.parametrize("workers", ["1", "3"])
def test_workers(workers: str, slow_oss: OssServer, home: Home, trainer: Trainer) -> None:
    options = [*oss_options(slow_oss), "--readahead", "off", "--workers", workers]
    mount = home.mount(*options, "oss://images/", env=slow_oss.environment())
    wait_for(lambda: mount.children("worker") != [])
    with killing(processes_of(mount, "worker"), slow_oss) as killed:
        trainer.start(mount.path)
        (epoch,) = trainer.finish()
    assert epoch == expected()
    assert len(set(killed)) == KILLS
    assert len(children_of(mount.supervisor())) == int(workers)
    assert home.log.count("starting another") == KILLS
    mount.umount()
    assert home.left_behind() == []


def test_prefetchers(slow_oss: OssServer, home: Home, trainer: Trainer) -> None:
    options = [*oss_options(slow_oss), "--readahead", "dataset", "--prefetchers", "2", "--max-requests", "4"]
    mount = home.mount(*options, "oss://images/", env=slow_oss.environment())
    wait_for(lambda: mount.children("prefetcher") != [])
    with killing(processes_of(mount, "prefetcher"), slow_oss) as killed:
        trainer.start(mount.path)
        (epoch,) = trainer.finish()
    assert epoch == expected()
    assert killed
    mount.umount()
    assert home.left_behind() == []


def test_supervisor_dies(slow_oss: OssServer, home: Home) -> None:
    """Readers get an error instead of hanging, nobody stays, and the dead mount can be cleaned."""
    mount = home.mount(*oss_options(slow_oss), "oss://images/", env=slow_oss.environment())
    os.kill(mount.supervisor(), signal.SIGKILL)
    wait_for(lambda: not home.processes(), 15, lambda: home.log)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is looked at below
        (mount.path / "ant" / "000.jpg").read_bytes()
    # The first where the request met the connection while the kernel was still ending it.
    assert caught.value.errno in {errno.ECONNABORTED, errno.ENOTCONN}
    again = home.run("mount", *oss_options(slow_oss), "oss://images/", str(mount.path))
    assert again.status == 6
    assert "dead" in again.err
    cleaned = home.mount(
        *oss_options(slow_oss), "--clean", "oss://images/", at=mount.path, env=slow_oss.environment()
    )
    assert (cleaned.path / "ant" / "000.jpg").read_bytes() == image_set()["ant/000.jpg"]
    cleaned.umount()
    assert home.left_behind() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="another process's descriptors are root's to copy")
@pytest.mark.parametrize("way", ["unmounted", "mounted anew"])
def test_programs_do_not_wait_for_a_mount_that_was_killed(way: str, home: Home, tmp_path: Path) -> None:
    """A thread that is left in the kernel keeps the device open; here the test itself does."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    mount = home.mount(str(source))
    connection = waiting_at(mount.path)
    with copied_descriptor(mount.supervisor(), "/dev/fuse"):
        for pid in [mount.supervisor(), *home.processes()]:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not home.processes())
        program = subprocess.Popen(["cat", str(mount.path / "file")], stderr=subprocess.PIPE)
        try:
            wait_for(lambda: int(connection.read_text()) > 0)
            if way == "mounted anew":
                home.mount("--clean", str(source), at=mount.path).umount()
            else:
                ended = home.run("umount", "--lazy", str(mount.path))
                assert (ended.status, ended.err) == (0, "")
            assert b"file" in program.communicate(timeout=20)[1]
            assert program.returncode == 1
        finally:
            program.kill()
            program.communicate()
    assert home.left_behind() == []


def waiting_at(mountpoint: Path) -> Path:
    """The kernel's count of requests that the mount has not answered."""
    mounted = mounted_at(mountpoint)
    assert mounted is not None
    return Path(f"/sys/fs/fuse/connections/{mounted.connection}/waiting")
