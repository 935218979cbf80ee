"""mount(8) itself mounts, by the type fuse.ossmount and through its helper.

Touch it when an option of fstab needs another treatment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Home, command_home
from tests.support.mounting import needs_fuse
from tests.support.programs import ROOT, program, run

COMMAND = Path(sys.executable).parent / "ossmount"

pytestmark = [
    needs_fuse,
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) lets root alone mount"),
]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with command_home(tmp_path / "home") as made:
        source = made.path / "source"
        source.mkdir()
        (source / "x").write_text("read")
        yield made


@pytest.fixture(scope="module")
def sbin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What packaging/install-files.sh puts into /sbin."""
    root = tmp_path_factory.mktemp("root")
    installed = run(
        str(ROOT / "packaging/install-files.sh"), str(COMMAND), env={**os.environ, "DESTDIR": str(root)}
    )
    assert installed.returncode == 0, installed.stderr
    return root / "sbin"


def laid_over(folder: Path, place: str) -> str:
    """A line that shows the files of ``folder`` in ``place`` too, within a namespace."""
    return f"mount -t overlay overlay -o lowerdir={folder}:{place} {place} || exit 99"


def in_namespace(home: Home, *lines: str) -> subprocess.CompletedProcess[str]:
    """Runs ``lines`` in a mount namespace of their own; skips where overlays cannot be made in one."""
    script = "\n".join(["set -e", *lines])
    words = ("--mount", "--propagation", "private", "sh", "-c", script)
    done = run(program("unshare"), *words, env=home.variables(), cwd=home.path)
    if done.returncode == 99:
        pytest.skip(f"no such file system here: {done.stderr}")
    return done


def show(mountpoint: Path) -> tuple[str, ...]:
    """Lines that read the mount, show its options, and end it."""
    return (
        f"cat {mountpoint}/x",
        f"grep ' {mountpoint} fuse.ossmount ' /proc/self/mounts",
        f"umount {mountpoint}",
        f"! grep ' {mountpoint} ' /proc/self/mounts",
    )


@pytest.mark.parametrize("kind", ["fuse.ossmount", "ossmount"])
def test_mount_by_type(home: Home, sbin: Path, kind: str) -> None:
    mountpoint = home.directory()
    line = f"mount -t {kind} file://{home.path}/source/ {mountpoint}"
    done = in_namespace(
        home,
        laid_over(sbin, "/usr/sbin"),
        f"{line} -o ro,_netdev,allow_other,cache-size=1G",
        *show(mountpoint),
    )
    assert done.returncode == 0, done.stderr + home.log
    assert done.stdout.startswith("read")
    assert {"ro", "allow_other"} <= set(re.split(r"[ ,]", done.stdout))


def test_mount_through_mount_fuse(home: Home) -> None:
    """Without our helper mount(8) runs mount.fuse, which looks for the command on a PATH of its own."""
    if not Path("/usr/sbin/mount.fuse").exists():
        pytest.skip("no mount.fuse here: apt-get install fuse3")
    (home.path / "bin").mkdir()
    (home.path / "bin/ossmount").symlink_to(COMMAND)
    mountpoint = home.directory()
    line = f"mount -t fuse.ossmount file://{home.path}/source/ {mountpoint}"
    done = in_namespace(
        home,
        laid_over(home.path / "bin", "/usr/local/sbin"),
        f"{line} -o ro,_netdev,allow_other,cache-size=1G",
        *show(mountpoint),
    )
    assert done.returncode == 0, done.stderr + home.log
    assert done.stdout.startswith("read")


def test_mount_by_a_line_of_fstab(home: Home, sbin: Path) -> None:
    mountpoint = home.directory()
    words = "ro,_netdev,nofail,x-systemd.automount,x-systemd.requires=network-online.target,allow_other"
    line = f"file://{home.path}/source/ {mountpoint} fuse.ossmount {words},cache-size=1G 0 0\n"
    (home.path / "fstab").write_text(line)
    done = in_namespace(
        home, laid_over(sbin, "/usr/sbin"), f"mount --fstab {home.path}/fstab {mountpoint}", *show(mountpoint)
    )
    assert done.returncode == 0, done.stderr + home.log
    assert done.stdout.startswith("read")


def test_an_automount_is_made_by_who_first_reads(home: Home) -> None:
    """autofs lets the process group of systemd pass, and has everybody else wait, our daemon too."""
    mountpoint = home.directory()
    mount = f"{sys.executable} -m ossmount mount file://{home.path}/source/ {mountpoint}"
    done = in_namespace(
        home,
        f"{sys.executable} -m tests.support.automount {mountpoint} x {mount}",
        f"{sys.executable} -m ossmount umount {mountpoint}",  # it returns when the daemon has ended
        f"grep ' {mountpoint} ' /proc/self/mounts",
    )
    assert done.returncode == 0, done.stderr + home.log
    assert re.fullmatch(rf"readtest {mountpoint} autofs .*\n", done.stdout), "systemd goes on watching"


def test_mount_says_what_is_wrong(home: Home, sbin: Path) -> None:
    mountpoint = home.directory()
    line = f"mount -t fuse.ossmount file://{home.path}/source/ {mountpoint} -o ro,cache-siz=1G"
    done = in_namespace(home, laid_over(sbin, "/usr/sbin"), line)
    assert done.returncode != 0
    assert "did you mean 'cache-size'" in done.stderr


def test_the_helper_as_mount_runs_it(home: Home) -> None:
    helper = str(COMMAND.parent / "mount.ossmount")
    mountpoint = home.directory()
    words = [helper, f"file://{home.path}/source/", str(mountpoint)]
    refused = run(*words, "-o", "rw", env=home.variables(), cwd=home.path)
    assert "never writes" in refused.stderr
    done = run(*words, "-s", "-o", "ro,unheard=of,allow_other", env=home.variables(), cwd=home.path)
    assert done.returncode == 0, done.stderr
    assert (mountpoint / "x").read_text() == "read"
