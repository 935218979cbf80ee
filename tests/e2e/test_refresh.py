"""A mount goes over to the next generation under load: no reader notices, no byte is wrong.

Touch it when a swap promises something else (SEMANTICS, Consistency; docs/generations.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import pytest

from tests.servers.oss_server import OssServer
from tests.support.buckets import fill_oss, oss_options
from tests.support.command import ROOT, CommandMount, Home
from tests.support.generation_reader import content
from tests.support.mounting import needs_fuse, wait_for
from tests.support.residency import locked_in_memory, may_lock

pytestmark = [needs_fuse, pytest.mark.fuse, pytest.mark.server]

BUCKET = "generations"
FILES, FOLDERS, SIZE = 1000, 10, 20_000
CHANGED = 10
"""One in a hundred, as a refreshed data set has it."""

PATHS = [f"class{i % FOLDERS}/{i:04}.bin" for i in range(FILES)]
STAYS, CHANGES, GOES = PATHS[3 * CHANGED :], PATHS[:CHANGED], PATHS[CHANGED : 2 * CHANGED]
LOCKED = STAYS[::4]
"""What is held in memory where READs are counted: 5 MB, of 8 MiB that most machines let anybody lock."""

NEW = [f"class{i % FOLDERS}/new{i:02}.bin" for i in range(CHANGED)]


@pytest.fixture
def server(oss: OssServer) -> OssServer:
    fill_oss(oss, BUCKET, {f"t/{path}": content(path, 1, SIZE) for path in PATHS})
    return oss


@pytest.fixture
def mount(server: OssServer, home: Home) -> Iterator[CommandMount]:
    mounted = home.mount(*oss_options(server), f"oss://{BUCKET}/t/", env=server.environment())
    yield mounted
    assert "Traceback" not in home.log
    mounted.umount()
    assert home.left_behind() == []


def alter(server: OssServer, version: int = 2) -> None:
    """Changes, removes and adds one in a hundred."""
    fill_oss(server, BUCKET, {f"t/{path}": content(path, version, SIZE + version) for path in CHANGES})
    for path in GOES:
        server.delete(BUCKET, f"t/{path}")
    fill_oss(server, BUCKET, {f"t/{path}": content(path, 1, SIZE) for path in NEW})


def refresh(mount: CommandMount) -> Mapping[str, Any]:
    done = mount.home.run("refresh", "--json", str(mount.path))
    assert done.status == 0, done.err + mount.home.log
    return dict(json.loads(done.out))


def read_all(mount: CommandMount, paths: list[str], version: int) -> None:
    for path in paths:
        data = (mount.path / path).read_bytes()
        assert data == content(path, version, SIZE if version == 1 else SIZE + version), path


def reads(mount: CommandMount) -> int:
    """READ requests that reached a worker so far."""
    return int(mount.rested_stats()["fs"]["reads"])


def drop_pages(path: Path) -> None:
    """The kernel forgets what it has of the file, so that somebody is asked."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def readers(mount: CommandMount, paths: list[str], count: int) -> Iterator[list[dict[str, Any]]]:
    """Programs that read until the block ends; the list then has their reports."""
    reports: list[dict[str, Any]] = []
    command = [sys.executable, "-m", "tests.support.generation_reader", str(mount.path)]
    running = [
        subprocess.Popen(
            [*command, str(seed)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for seed in range(count)
    ]
    try:
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\n".join(paths))
            process.stdin.close()
            process.stdin = None
        yield reports
        for process in running:
            process.send_signal(signal.SIGTERM)
        reports += [json.loads(process.communicate(timeout=30)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait(10)


def test_under_load(mount: CommandMount, server: OssServer) -> None:
    read_all(mount, PATHS, 1)
    stay = [path for path in PATHS if path not in GOES]
    with readers(mount, stay, 8) as reports:
        time.sleep(2)  # readers in full swing are the point; how far they are does not matter
        alter(server)
        refreshed = refresh(mount)
        time.sleep(2)
    counts: Counter[str] = Counter()
    for report in reports:
        assert report["wrong"] == []
        counts.update(report["counts"])
    assert counts["version 2"] > 0
    assert counts["listings"] > 0
    assert (refreshed["added"], refreshed["changed"], refreshed["gone"]) == (CHANGED, CHANGED, CHANGED)
    read_all(mount, CHANGES, 2)
    assert not any((mount.path / path).exists() for path in GOES)


@pytest.mark.skipif(
    not may_lock(len(LOCKED) * (SIZE + PAGESIZE)), reason="no memory may be locked: ulimit -l"
)
def test_unchanged_files_stay_in_the_kernel(mount: CommandMount, server: OssServer) -> None:
    read_all(mount, PATHS, 1)
    inodes = {path: (mount.path / path).stat().st_ino for path in STAYS}
    assert not (mount.path / NEW[0]).exists()  # the kernel remembers that there is no such name
    alter(server)
    with locked_in_memory(mount.path / path for path in LOCKED):
        before, fetched = reads(mount), server.requests["GET"]
        assert before > 0, "the first of all files nobody could foresee"
        assert refresh(mount)["generation"] == 2
        read_all(mount, LOCKED, 1)
        assert reads(mount) == before, "unchanged files were read again"
    read_all(mount, STAYS, 1)
    assert {path: (mount.path / path).stat().st_ino for path in STAYS} == inodes
    read_all(mount, CHANGES, 2)
    read_all(mount, NEW, 1)
    # With a READ, or pushed before: prefetchers introduce files of the new generation to the kernel.
    assert server.requests["GET"] - fetched >= len(CHANGES) + len(NEW)
    assert os.getxattr(mount.path, "user.ossmount.generation") == b"2"
    assert sorted(os.listdir(mount.path / "class0")) == sorted(  # noqa: PTH208
        path.partition("/")[2] for path in [*PATHS, *NEW] if path.startswith("class0/") and path not in GOES
    )


def test_open_handles_read_the_old_generation(mount: CommandMount, server: OssServer) -> None:
    path = CHANGES[0]
    with (mount.path / path).open("rb") as handle, (mount.path / GOES[0]).open("rb") as gone:
        first = handle.read(100)
        gone.read(100)
        alter(server)
        refresh(mount)
        assert (mount.path / path).read_bytes() == content(path, 2, SIZE + 2)
        assert first + handle.read() == content(path, 1, SIZE)
        gone.seek(0)
        assert gone.read() == content(GOES[0], 1, SIZE)
        assert os.fstat(handle.fileno()).st_size == SIZE


def test_of_files_that_the_kernel_opens_without_asking(mount: CommandMount, server: OssServer) -> None:
    for _ in range(5):
        read_all(mount, PATHS, 1)
    before = mount.rested_stats()["fs"]
    assert before["opens_unasked"] > 0, mount.home.log
    for path in CHANGES:
        drop_pages(mount.path / path)
    read_all(mount, PATHS, 1)
    after = mount.rested_stats()["fs"]
    assert (after["opens"], after["reads"] >= before["reads"] + len(CHANGES)) == (before["opens"], True)
    with (mount.path / CHANGES[0]).open("rb") as handle:
        alter(server)
        assert refresh(mount)["generation"] == 2
        drop_pages(mount.path / STAYS[0])
        read_all(mount, STAYS, 1)
        read_all(mount, CHANGES, 2)
        read_all(mount, NEW, 1)
        assert handle.read() == content(CHANGES[0], 1, SIZE)
    assert not any((mount.path / path).exists() for path in GOES)
    assert not mount.rested_stats().get("errors")


def test_again_and_again(mount: CommandMount, server: OssServer) -> None:
    """Generations follow each other; without news nothing is swapped."""
    for version in (2, 3):
        alter(server, version)
        assert refresh(mount)["generation"] == version
        read_all(mount, CHANGES, version)
    workers = set(mount.children("worker"))
    refreshed = refresh(mount)
    assert (refreshed["previous"], refreshed["generation"]) == (3, 3)
    assert set(mount.children("worker")) == workers


def test_signal(mount: CommandMount, server: OssServer) -> None:
    alter(server)
    os.kill(mount.supervisor(), signal.SIGHUP)
    wait_for(lambda: os.getxattr(mount.path, "user.ossmount.generation") == b"2", 20, lambda: mount.home.log)
    read_all(mount, CHANGES, 2)


def test_interval(server: OssServer, home: Home) -> None:
    mount = home.mount(
        *oss_options(server), "--refresh", "500ms", f"oss://{BUCKET}/t/", env=server.environment()
    )
    alter(server)
    wait_for(lambda: (mount.path / NEW[0]).exists(), 20, lambda: home.log)
    mount.umount()
    assert home.left_behind() == []


def test_failure_changes_nothing(mount: CommandMount, server: OssServer) -> None:
    read_all(mount, PATHS[:50], 1)
    server.remove_account(server.access_key)
    done = mount.home.run("refresh", str(mount.path))
    assert done.status == 5, done.err
    assert "InvalidAccessKeyId" in done.err
    read_all(mount, PATHS[:50], 1)
    server.add_account(server.access_key, server.secret_key)
    alter(server)
    assert refresh(mount)["generation"] == 2


def test_workers_that_hang_do_not_hold_it_up(mount: CommandMount, server: OssServer) -> None:
    """A worker that cannot answer is replaced, and its requests are handed out again."""
    read_all(mount, PATHS, 1)
    alter(server)
    hanging = mount.children("worker")[0]
    os.kill(hanging, signal.SIGSTOP)
    try:
        assert refresh(mount)["generation"] == 2
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hanging, signal.SIGCONT)
    read_all(mount, CHANGES, 2)


def test_index_refreshed_by_somebody_else(mount: CommandMount, server: OssServer, home: Home) -> None:
    """A mount goes on with the generation that it serves, until it is told to take the next."""
    (kept,) = (home.cache / "indexes").glob("*.ossidx")
    alter(server)
    done = home.run("index", "refresh", "--json", str(kept), env=server.environment())
    assert json.loads(done.out)["generation"] == 2
    for worker in mount.children("worker"):
        os.kill(worker, signal.SIGKILL)
    read_all(mount, STAYS[:100], 1)
    assert os.getxattr(mount.path, "user.ossmount.generation") == b"1"
    assert refresh(mount)["generation"] == 2
    read_all(mount, CHANGES, 2)


def test_nobody_there(home: Home, tmp_path: Path) -> None:
    done = home.run("refresh", str(tmp_path))
    assert done.status == 6
    assert "no ossmount mount" in done.err
