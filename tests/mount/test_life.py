"""How a mount starts, survives and ends: deaths of every process, signals, descriptors, dead mounts."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Queue, get_context
from pathlib import Path

import pytest

from ossmount.errors import MountpointUnusable
from ossmount.fuse.mountpoint import check_directory, elsewhere, mounts, unmount
from tests.support.fake_filesystem import content, small_tree
from tests.support.mounting import (
    Mounted,
    is_mounted,
    is_running,
    needs_fuse,
    reading,
    serving_process,
    wait_for,
    waits_in_kernel,
)

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(90)]

Mount = Callable[..., Mounted]


def test_unmounting_ends_every_process(mount: Mount) -> None:
    mounted = mount("serve_small", 2)
    pids = mounted.children()
    assert len(pids) == 2

    assert mounted.unmount() == 0
    assert not any(map(is_running, pids))
    assert not is_mounted(mounted.path)


def test_a_worker_that_never_finishes_closing_is_ended_too(mount: Mount) -> None:
    mounted = mount("serve_and_linger", 2)
    pids = mounted.children()

    assert mounted.unmount() == 0
    assert not any(map(is_running, pids))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_ends_every_process(mount: Mount, signum: int) -> None:
    mounted = mount("serve_small", 2)
    pids = mounted.children()
    mounted.supervisor.send_signal(signum)

    assert mounted.supervisor.wait(10) == 0
    assert not any(map(is_running, pids))
    assert not is_mounted(mounted.path)


def test_sigterm_serves_open_files_until_they_are_closed(mount: Mount) -> None:
    mounted = mount("serve_slow", 2)
    expected = content("big", small_tree()["big"])
    with (mounted.path / "big").open("rb", buffering=0) as file:
        start = os.pread(file.fileno(), 1000, 0)
        mounted.supervisor.send_signal(signal.SIGTERM)
        wait_for(lambda: not is_mounted(mounted.path))
        assert start + os.pread(file.fileno(), len(expected), 1000) == expected
    assert mounted.supervisor.wait(10) == 0


def test_both_workers_answer_at_once(mount: Mount) -> None:
    mounted = mount("serve_busy", 2)
    paths = [mounted.path / f"class{i % 3}/img{i:03}.jpg" for i in range(1, 9)]
    threads = [threading.Thread(target=path.read_bytes) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(set(re.findall(r"read by (\d+)", mounted.log))) == 2


def read_all(root: Path, rounds: int, results: Queue[str]) -> None:
    """Reads every file of the small tree, past the page cache; "" or what was wrong."""
    try:
        for _ in range(rounds):
            for path, size in small_tree().items():
                with (root / path).open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    found = file.read()
                if hashlib.sha256(found).digest() != hashlib.sha256(content(path, size)).digest():
                    results.put(f"{path}: wrong bytes")
                    return
        results.put("")
    except Exception as error:
        results.put(repr(error))


def test_killing_workers_while_eight_processes_read_harms_nobody(mount: Mount) -> None:
    mounted = mount("serve_slowish", 2)
    context = get_context("spawn")
    results: Queue[str] = context.Queue()
    readers = [context.Process(target=read_all, args=(mounted.path, 6, results)) for _ in range(8)]
    for reader in readers:
        reader.start()
    kills = 0
    while any(reader.is_alive() for reader in readers) and kills < 10:
        victims = mounted.children()
        if len(victims) == 2:
            os.kill(victims[kills % 2], signal.SIGKILL)
            kills += 1
        time.sleep(0.4)
    outcome = [results.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join(10)

    assert outcome == [""] * 8
    assert kills >= 4
    mounted.wait_for(lambda: len(mounted.children()) == 2)
    assert mounted.unmount() == 0
    assert "fuse_reply" not in mounted.log


def test_killing_the_idle_token_holder_is_repaired(mount: Mount) -> None:
    mounted = mount("serve_small", 2)
    for round_number in range(6):
        for victim in mounted.children():
            os.kill(victim, signal.SIGKILL)
        assert (mounted.path / "one").stat().st_size == 1
        assert not (mounted.path / f"absent{round_number}").exists()
        mounted.wait_for(lambda: len(mounted.children()) == 2)


def test_a_killed_worker_whose_push_waits_for_its_own_read_is_replaced(mount: Mount) -> None:
    """Its process does not end before the READ is answered, which only another worker can do."""
    mounted = mount("serve_pushing_at_once", 1)
    with reading(mounted.path / "big") as reader:
        (worker,) = mounted.children()
        mounted.wait_for(lambda: "pushing" in mounted.log and waits_in_kernel(worker))
        os.kill(worker, signal.SIGKILL)
        assert reader.communicate(timeout=20)[0] == content("big", small_tree()["big"])
    wait_for(lambda: not is_running(worker))
    assert mounted.unmount() == 0


def test_a_worker_that_is_told_to_stop_answers_what_it_has_accepted(mount: Mount) -> None:
    mounted = mount("serve_slow", 1)
    found: list[bytes] = []
    path = mounted.path / "class1/img009.jpg"
    path.stat()
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    (old,) = mounted.children()
    reader.start()
    os.kill(old, signal.SIGTERM)
    reader.join(10)

    assert found == [content("class1/img009.jpg", 9013)]
    mounted.wait_for(lambda: mounted.children() not in ([old], []))
    assert "ended with status 75; starting another" in mounted.log


def test_a_killed_reader_does_not_stop_the_others(mount: Mount) -> None:
    mounted = mount("serve_slow", 1)
    command = "import sys; open(sys.argv[1], 'rb').read()"
    for _ in range(5):
        victims = [
            subprocess.Popen([sys.executable, "-c", command, str(mounted.path / "class1/img009.jpg")])
            for _ in range(3)
        ]
        time.sleep(0.03)
        for victim in victims:
            victim.kill()
        assert len((mounted.path / "class1/img010.jpg").read_bytes()) == 10_013
        for victim in victims:
            victim.wait(10)


def test_killing_the_supervisor_ends_everything_and_users_get_enotconn(mount: Mount) -> None:
    mounted = mount("serve_slow", 2)
    pids = mounted.children()
    mounted.supervisor.kill()
    mounted.supervisor.wait(10)
    wait_for(lambda: not any(map(is_running, pids)))

    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is tested
        (mounted.path / "one").stat()  # the connection is aborted, so this cannot hang
    assert caught.value.errno == errno.ENOTCONN
    assert mounted.path in [found.path for found in mounts()]
    with pytest.raises(MountpointUnusable, match=r"is a dead mount of fake://tree.*ossmount umount"):
        check_directory(mounted.path)
    assert str(check_directory(mounted.path, clean=True)) == str(mounted.path)
    assert not is_mounted(mounted.path)


def test_a_live_mount_is_not_mounted_over(mount: Mount) -> None:
    mounted = mount("serve_small", 1)
    with pytest.raises(MountpointUnusable, match="already shows fake://tree"):
        check_directory(mounted.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace of one's own is root's to make")
def test_who_has_a_copy_of_the_mount_in_a_container_is_found(mount: Mount) -> None:
    mounted = mount("serve_small", 1)
    (connection,) = [found.connection for found in mounts() if found.path == mounted.path]
    container = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 60"]
    with subprocess.Popen(container, stdout=subprocess.PIPE) as copy:
        try:
            assert copy.stdout is not None
            copy.stdout.readline()
            found = list(elsewhere(connection))
            assert copy.pid in found
            assert not {os.getpid(), mounted.supervisor.pid, *mounted.children()} & set(found)
        finally:
            copy.kill()


def test_unmount_of_a_busy_mount_says_so_and_lazy_detaches_it(mount: Mount) -> None:
    mounted = mount("serve_small", 1)
    with (mounted.path / "one").open("rb"):
        with pytest.raises(MountpointUnusable, match="cannot be unmounted"):
            unmount(mounted.path)
        unmount(mounted.path, lazy=True)
        assert not is_mounted(mounted.path)
    assert mounted.supervisor.wait(10) == 0


def test_the_app_is_called_on_hangup_and_on_its_descriptors(mount: Mount, tmp_path: Path) -> None:
    control = tmp_path / "control"
    os.mkfifo(control)
    mounted = mount("serve_small", 2, "--control", str(control))
    mounted.supervisor.send_signal(signal.SIGHUP)
    mounted.wait_for(lambda: "hangup" in mounted.log)
    os.kill(mounted.children()[0], signal.SIGKILL)
    mounted.wait_for(lambda: "starting another" in mounted.log and len(mounted.children()) == 2)

    control.write_bytes(b"statistics\n")
    mounted.wait_for(lambda: "'workers': 2, 'prefetchers': 0, 'restarts': 1" in mounted.log)
    control.write_bytes(b"stop\n")
    assert mounted.supervisor.wait(10) == 0


def test_a_worker_that_cannot_start_fails_the_mount_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    factory = "tests.support.fake_filesystem:serve_nothing"
    command = [sys.executable, "-m", "tests.support.mount_process", str(tmp_path / "mnt"), factory, "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 4
    assert done.stdout.strip() == "IndexDamaged: the index is truncated; build it again"
    assert not is_mounted(tmp_path / "mnt")


def test_a_worker_that_dies_at_once_again_and_again_ends_the_mount(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    factory = "tests.support.fake_filesystem:serve_and_die"
    command = [sys.executable, "-m", "tests.support.mount_process", str(tmp_path / "mnt"), factory, "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 6
    assert "again and again" in done.stdout
    assert not is_mounted(tmp_path / "mnt")


@contextlib.contextmanager
def mounted_descriptor(path: Path) -> Iterator[int]:
    """A /dev/fuse descriptor that is mounted on ``path``, as a privileged mounter makes it."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions".encode()
    if libc.mount(b"csi", os.fsencode(path), b"fuse.ossmount", ctypes.c_ulong(1), data) != 0:
        os.close(fd)
        pytest.skip("mount(2) is not allowed here")
    try:
        yield fd
    finally:
        libc.umount2(os.fsencode(path), 2)


def test_a_descriptor_that_somebody_else_mounted(tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    with mounted_descriptor(path) as fd:
        factory = "tests.support.fake_filesystem:serve_small"
        command = [sys.executable, "-m", "tests.support.mount_process", f"/dev/fd/{fd}", factory, "2"]
        with serving_process(command, path, tmp_path / "log", pass_fds=(fd,)) as mount:
            assert (path / "page-1").read_bytes() == content("page-1", 4095)
            pids = mount.children()
            mount.supervisor.send_signal(signal.SIGTERM)
            assert mount.supervisor.wait(10) == 0
            assert not any(map(is_running, pids))
            assert is_mounted(path), "who mounted it unmounts it"
