"""What programs see of a mount: attributes, names, extended attributes, bytes, refusals."""

from __future__ import annotations

import errno
import mmap
import os
import random
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fake_filesystem import MTIME_NS, content, small_tree
from tests.support.mounting import Mounted, needs_fuse

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(60)]


def test_attributes_of_a_file(small: Mounted) -> None:
    status = (small.path / "page-1").stat()

    assert stat.filemode(status.st_mode) == "-r--r--r--"
    assert (status.st_size, status.st_blocks, status.st_nlink) == (4095, 8, 1)
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
    assert status.st_mtime_ns == status.st_ctime_ns == MTIME_NS


@pytest.fixture
def connection(small: Mounted) -> Path:
    """The kernel's side of the small mount's connection."""
    if os.geteuid() != 0:
        pytest.skip("only root sees the kernel's side of a connection")
    control = Path("/sys/fs/fuse/connections")
    if not any(control.iterdir()):
        subprocess.run(["mount", "-t", "fusectl", "none", str(control)], check=True, timeout=10)
    return control / str(small.connection)


def test_the_kernel_keeps_as_many_requests_outstanding_as_it_was_told(connection: Path) -> None:
    assert (connection / "max_background").read_text() == "512\n"
    assert (connection / "congestion_threshold").read_text() == "384\n"


def test_look_ups_in_one_directory_wait_side_by_side_and_can_be_killed(
    small: Mounted, connection: Path
) -> None:
    """With a lock on the directory the second one would wait for the first, where no signal ends it."""
    workers = small.children()
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    programs = [
        subprocess.Popen(["stat", small.path / f"absent{i}"], stderr=subprocess.DEVNULL) for i in range(2)
    ]
    try:
        small.wait_for(lambda: (connection / "waiting").read_text() == "2\n")
        programs[1].kill()
        assert programs[1].wait(10) == -signal.SIGKILL
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
    assert programs[0].wait(10) == 1


def test_attributes_of_directories(small: Mounted) -> None:
    assert stat.filemode(small.path.stat().st_mode) == "dr-xr-xr-x"
    assert small.path.stat().st_ino == 1
    assert small.path.stat().st_nlink == 2 + 4
    assert (small.path / "deep").stat().st_nlink == 3


def test_inode_numbers_are_the_same_by_stat_and_by_scandir(small: Mounted) -> None:
    with os.scandir(small.path) as entries:
        assert all(entry.inode() == Path(entry.path).stat().st_ino for entry in entries)


def test_the_whole_tree_and_every_byte(small: Mounted) -> None:
    found = {
        str(path.relative_to(small.path)): path.read_bytes()
        for path in small.path.rglob("*")
        if path.is_file()
    }

    assert found == {path: content(path, size) for path, size in small_tree().items()}


def test_reads_at_odd_offsets(small: Mounted) -> None:
    expected = content("big", small_tree()["big"])
    rng = random.Random(7)
    with (small.path / "big").open("rb") as file:
        for _ in range(200):
            offset, length = rng.randrange(len(expected) + 10), rng.randrange(1, 200_000)
            assert os.pread(file.fileno(), length, offset) == expected[offset : offset + length]
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[1_000_001:1_100_003] == expected[1_000_001:1_100_003]


def test_a_name_that_is_not_there(small: Mounted) -> None:
    with pytest.raises(FileNotFoundError):
        (small.path / "nothing").stat()


def test_names_are_kept_by_the_kernel_there_or_not(mount: Callable[..., Mounted]) -> None:
    one_worker = mount("serve_small", 1)  # each worker counts for itself
    missing, there = one_worker.path / "missing-for-good", one_worker.path / "one"
    assert there.exists()
    assert not missing.exists()
    before = lookups(one_worker)

    assert not any(missing.exists() for _ in range(20))
    assert all(there.exists() for _ in range(20))
    assert lookups(one_worker) == before == 2


def lookups(mount: Mounted) -> int:
    return int(os.getxattr(mount.path, "user.fake.lookups"))


def test_extended_attributes(small: Mounted) -> None:
    assert os.listxattr(small.path / "one") == ["user.ossmount.uri"]
    assert os.getxattr(small.path / "one", "user.ossmount.uri") == b"fake:///one"
    with pytest.raises(OSError, match="No data") as caught:
        os.getxattr(small.path / "one", "user.other")
    assert caught.value.errno == errno.ENODATA


def test_statfs_tells_the_totals(small: Mounted) -> None:
    sizes = small_tree()
    totals = os.statvfs(small.path)

    assert totals.f_blocks == -(-sum(sizes.values()) // totals.f_frsize)
    assert totals.f_files == len(sizes) + 6
    assert (totals.f_bfree, totals.f_bavail, totals.f_ffree, totals.f_namemax) == (0, 0, 0, 255)


def test_access(small: Mounted) -> None:
    assert os.access(small.path / "one", os.R_OK)
    assert not os.access(small.path / "one", os.W_OK)
    assert os.access(small.path / "deep", os.X_OK)


def test_readlink_of_a_file(small: Mounted) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        (small.path / "one").readlink()
    assert caught.value.errno == errno.EINVAL


WRITES: dict[str, Callable[[Path], object]] = {
    "open for writing": lambda root: os.open(root / "one", os.O_WRONLY),
    "open for both": lambda root: os.open(root / "one", os.O_RDWR),
    "open and truncate": lambda root: os.open(root / "one", os.O_RDONLY | os.O_TRUNC),
    "create": lambda root: os.open(root / "new", os.O_CREAT | os.O_RDONLY),
    "truncate": lambda root: os.truncate(root / "one", 0),
    "mkdir": lambda root: (root / "new").mkdir(),
    "rmdir": lambda root: (root / "deep").rmdir(),
    "unlink": lambda root: (root / "one").unlink(),
    "rename": lambda root: (root / "one").rename(root / "two"),
    "symlink": lambda root: (root / "new").symlink_to("one"),
    "link": lambda root: os.link(root / "one", root / "new"),
    "mknod": lambda root: os.mkfifo(root / "new"),
    "chmod": lambda root: (root / "one").chmod(0o600),
    "chown": lambda root: os.chown(root / "one", 1, 1),
    "utime": lambda root: os.utime(root / "one", (1, 1)),
    "setxattr": lambda root: os.setxattr(root / "one", "user.a", b"b"),
    "removexattr": lambda root: os.removexattr(root / "one", "user.ossmount.uri"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_everything_that_writes_is_refused(small: Mounted, write: Callable[[Path], object]) -> None:
    with pytest.raises(OSError, match="Read-only file system") as caught:
        write(small.path)
    assert caught.value.errno == errno.EROFS


def test_errors_of_a_store_reach_the_program(mount: Callable[..., Mounted]) -> None:
    failing = mount("serve_failing")
    expected = {
        "changed": errno.ESTALE,
        "denied": errno.EACCES,
        "deadline": errno.ETIMEDOUT,
        "broken": errno.EIO,
        "unavailable": errno.EIO,
    }
    for name, code in expected.items():
        for _ in range(2):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is tested
                (failing.path / name).read_bytes()
            assert caught.value.errno == code, name
    assert 1 <= failing.log.count("unexpected ZeroDivisionError") <= 2, "once a minute for each worker"
