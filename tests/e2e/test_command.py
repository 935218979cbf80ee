"""The command as users, fstab and unit files run it: where options come from, and how a mount ends.

Touch it when there is another way to start or end a mount.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.oss_server import OssServer
from tests.support.buckets import fill_oss, oss_options
from tests.support.command import ROOT, CommandMount, Home
from tests.support.mounting import is_mounted, is_running, needs_fuse, wait_for

pytestmark = [needs_fuse, pytest.mark.fuse]


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A local source with one file."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "file").write_bytes(b"content")
    return f"file://{folder}/"


def mode(mountpoint: Path) -> int:
    return (mountpoint / "file").stat().st_mode & 0o777


def test_umount_ends_every_process_and_leaves_nothing(source: str, home: Home) -> None:
    mount = home.mount("--workers", "3", "--prefetchers", "2", source)
    supervisor = mount.supervisor()
    assert (mount.path / "file").read_bytes() == b"content"
    assert len(home.processes()) == 6
    mount.umount()
    assert not is_running(supervisor)
    assert home.left_behind() == []


def test_list_tells_of_the_mount(source: str, home: Home) -> None:
    mount = home.mount(source)
    (row,) = (r for r in json.loads(home.run("list", "--json").out) if r["mountpoint"] == str(mount.path))
    assert is_running(row["supervisor"])
    assert Path(row["index"]).is_relative_to(home.cache)
    assert row["source"].rstrip("/") == source.rstrip("/")
    assert row["generation"] == 1
    assert str(mount.path) in home.run("list").out
    mount.umount()
    assert str(mount.path) not in home.run("list").out


def test_flag_beats_environment_beats_toml(source: str, home: Home, tmp_path: Path) -> None:
    config = tmp_path / "ossmount.toml"
    config.write_text('file-mode = "0400"\ndir-mode = "0500"\n')
    toml = home.mount("--config", str(config), source)
    assert mode(toml.path) == 0o400
    assert toml.path.stat().st_mode & 0o777 == 0o500
    variable = home.mount("--config", str(config), source, env={"OSSMOUNT_FILE_MODE": "0440"})
    assert mode(variable.path) == 0o440
    flag = home.mount(
        "--config", str(config), "--file-mode", "0444", source, env={"OSSMOUNT_FILE_MODE": "0440"}
    )
    assert mode(flag.path) == 0o444
    for mount in (toml, variable, flag):
        mount.umount()


def test_source_first_with_o_options(source: str, home: Home) -> None:
    mountpoint = home.directory()
    done = home.run(source, str(mountpoint), "-o", "ro,file_mode=0404,workers=1,noauto,_netdev")
    assert done.status == 0, done.err
    assert mode(mountpoint) == 0o404
    assert home.run("umount", str(mountpoint)).status == 0
    assert home.left_behind() == []


def test_relative_paths_outlive_the_command(source: str, home: Home) -> None:
    """The daemon leaves the directory of the command; a worker made later must still find the cache."""
    home.directory()
    home.run("mount", "--cache-dir", "near", "--log-file", "near.log", source, "mnt0")
    mountpoint = home.path / "mnt0"
    workers = CommandMount(home, mountpoint).children
    wait_for(lambda: len(workers("worker")) == 2)
    for pid in workers("worker"):
        os.kill(pid, signal.SIGKILL)
    assert (mountpoint / "file").read_bytes() == b"content"
    assert not (Path("/") / "near").exists()
    assert (home.path / "near").is_dir()
    assert "starting another" in (home.path / "near.log").read_text()
    assert home.run("umount", "mnt0").status == 0
    assert home.left_behind() == []


def test_daemon_does_not_hold_the_callers_output(source: str, home: Home) -> None:
    """``$(ossmount mount …)`` returns: Home.run waits until everyone has closed the command's output."""
    mount = home.mount(source)
    descriptors = (Path(f"/proc/{pid}/fd/{n}") for pid in home.processes() for n in (1, 2))
    assert {str(d.readlink()) for d in descriptors} == {"/dev/null"}
    assert os.getsid(0) not in map(os.getsid, home.processes()), (
        "what ends the caller's session is not for it"
    )
    mount.umount()


def test_foreground_serves_until_sigterm(source: str, home: Home) -> None:
    mountpoint = home.directory()
    process = home.start("mount", "--foreground", source, str(mountpoint))
    assert process.stderr is not None
    while (line := process.stderr.readline()) and "serving" not in line:
        pass
    assert "serving" in line, home.log
    assert (mountpoint / "file").read_bytes() == b"content"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert not is_mounted(mountpoint)
    assert home.left_behind() == []


def test_sigterm_to_the_supervisor_lets_open_files_be_read_to_their_end(home: Home, oss: OssServer) -> None:
    fill_oss(oss, "draining", {"file": b"x" * 3_000_000})
    options = [*oss_options(oss), "--readahead", "off", "--small-file", "64K"]
    mount = home.mount(*options, "oss://draining/", env=oss.environment())
    with (mount.path / "file").open("rb", buffering=0) as file:
        first = file.read(1000)
        os.kill(mount.supervisor(), signal.SIGTERM)
        wait_for(lambda: not is_mounted(mount.path))
        rest = b"".join(iter(lambda: file.read(100_000), b""))
    assert first + rest == b"x" * 3_000_000
    wait_for(lambda: not home.left_behind(), 15, lambda: repr(home.left_behind()) + home.log)


def test_busy_mount_is_not_unmounted_but_lazily(source: str, home: Home) -> None:
    mount = home.mount(source)
    with (mount.path / "file").open("rb") as file:
        refused = home.run("umount", str(mount.path))
        assert refused.status == 6
        assert "--lazy" in refused.err
        assert len(refused.error_lines) == 1
        assert file.read() == b"content"
        lazily = home.start("umount", "--lazy", str(mount.path))
        wait_for(lambda: not is_mounted(mount.path))
    _, err = lazily.communicate(timeout=20)
    assert lazily.returncode == 0, err
    assert home.left_behind() == []


@contextlib.contextmanager
def mount_helper(program: Path) -> Iterator[None]:
    """``/sbin/mount.fuse.ossmount``, where mount(8) looks, leads to ``program`` while the block runs."""
    helper = Path("/sbin/mount.fuse.ossmount")
    if os.geteuid() != 0 or helper.exists():
        pytest.skip(f"mount -t needs root and a free {helper}")
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "sys.argv[0] = 'mount.fuse.ossmount'\nfrom ossmount.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    helper.symlink_to(program)
    try:
        yield
    finally:
        helper.unlink()


def unmounted(mountpoint: Path) -> bool:
    """Whether umount(8) has done it. It may say busy while a prefetcher lists a directory (operations.md)."""
    done = subprocess.run(
        ["umount", str(mountpoint)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0 or "busy" in done.stderr, done.stderr
    return done.returncode == 0


def test_mount_t_fuse_ossmount(source: str, home: Home, tmp_path: Path) -> None:
    mountpoint = home.directory()
    command = ["mount", "-t", "fuse.ossmount", "-o", "ro,workers=1,file_mode=0400", source, str(mountpoint)]
    with mount_helper(tmp_path / "helper"):
        done = subprocess.run(
            command, env=home.variables(), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    assert mode(mountpoint) == 0o400
    wait_for(lambda: unmounted(mountpoint), 5)
    wait_for(lambda: not home.left_behind(), 15, lambda: repr(home.left_behind()))
