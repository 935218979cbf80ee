"""Pushing: what the kernel refuses, what is dropped, and how much memory there is."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import cast

import pyfuse3
import pytest

from ossmount.fuse import pages
from ossmount.fuse.pages import Pusher, available_memory, push, store

MIB = 1 << 20


class Kernel:
    """Stands where notify_store is: keeps what was stored, or refuses it; may be held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stored: list[tuple[int, int, bytes]] = []
        self.error = 0
        self.asked = threading.Event()
        self.open = threading.Event()
        self.open.set()
        monkeypatch.setattr(pyfuse3, "notify_store", self.store)

    def store(self, ino: int, offset: int, data: bytes) -> None:
        self.asked.set()
        assert self.open.wait(5)
        if self.error:
            raise OSError(self.error, "refused")
        self.stored.append((ino, offset, data))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(pages._memory, "has_room", lambda: True)
    return Kernel(monkeypatch)


def test_what_the_kernel_takes(kernel: Kernel) -> None:
    assert push(7, 4096, b"data")
    assert kernel.stored == [(7, 4096, b"data")]


@pytest.mark.parametrize(
    ("code", "lines"), [(errno.ENOENT, 0), (errno.ENODEV, 0), (errno.ECONNABORTED, 0), (errno.EINVAL, 1)]
)
def test_what_it_does_not(kernel: Kernel, caplog: pytest.LogCaptureFixture, code: int, lines: int) -> None:
    kernel.error = code
    assert not store(7, 0, b"data")
    assert len(caplog.records) == lines


def test_nothing_is_pushed_without_memory(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages._memory, "has_room", lambda: False)
    assert not push(7, 0, b"data")
    assert kernel.stored == []


def test_a_pusher_pushes_in_order_and_finishes_at_close(kernel: Kernel) -> None:
    pusher = Pusher()
    assert all(pusher.push_nowait(ino, 0, b"data") for ino in range(5))
    pusher.close(timeout=5)
    assert [ino for ino, _, _ in kernel.stored] == [0, 1, 2, 3, 4]
    assert pusher.statistics() == {"stored": 5, "refused": 0, "dropped": 0}


class Body(bytearray):
    """Tells when nobody refers to it any more."""

    freed: threading.Event

    def __del__(self) -> None:
        self.freed.set()


def test_a_pusher_does_not_hold_what_it_has_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "push", lambda ino, offset, data: True)
    pusher = Pusher()
    body = Body(b"data")
    freed = body.freed = threading.Event()
    assert pusher.push_nowait(1, 0, cast("bytes", body))
    del body
    assert freed.wait(5)
    pusher.close(timeout=5)


def test_a_pusher_drops_what_is_too_much(kernel: Kernel) -> None:
    kernel.open.clear()
    pusher = Pusher(limit=10)
    assert pusher.push_nowait(1, 0, b"12345678")
    assert not pusher.push_nowait(2, 0, b"123")
    assert pusher.push_nowait(3, 0, b"12")
    kernel.open.set()
    pusher.close(timeout=5)
    assert [ino for ino, _, _ in kernel.stored] == [1, 3]
    assert pusher.statistics()["dropped"] == 1


def test_a_pusher_that_is_held_up_drops_the_rest_at_close(kernel: Kernel) -> None:
    """The kernel may hold it up until a READ is answered, which may take long: nothing follows then."""
    kernel.open.clear()
    pusher = Pusher()
    assert all(pusher.push_nowait(ino, 0, b"data") for ino in range(3))
    assert kernel.asked.wait(5)
    pusher.close(timeout=0)
    assert not pusher.push_nowait(7, 0, b"data")
    kernel.open.set()
    pusher._thread.join(5)
    assert [ino for ino, _, _ in kernel.stored] == [0]


def group(folder: Path, limit: str, current: int, inactive: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text(str(current))
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\nactive_file 3\n")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 1024000 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/box\n")
    return tmp_path


def test_a_machine_without_groups(machine: Path) -> None:
    assert available_memory(machine) == 1_024_000 << 10


def test_the_group_counts_with_its_inactive_pages(machine: Path) -> None:
    group(machine / "sys/fs/cgroup/pod/box", str(100 * MIB), 90 * MIB, 20 * MIB)
    assert available_memory(machine) == 30 * MIB


def test_the_groups_above_count_too(machine: Path) -> None:
    group(machine / "sys/fs/cgroup/pod/box", "max", 90 * MIB, 0)
    group(machine / "sys/fs/cgroup/pod", str(90 * MIB), 90 * MIB, 10 * MIB)
    assert available_memory(machine) == 10 * MIB


def test_groups_of_the_first_version(machine: Path) -> None:
    (machine / "proc/self/cgroup").write_text("5:cpu:/x\n4:memory:/box\n")
    folder = machine / "sys/fs/cgroup/memory/box"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(str(64 * MIB))
    (folder / "memory.usage_in_bytes").write_text(str(60 * MIB))
    (folder / "memory.stat").write_text(f"cache 1\ntotal_inactive_file {MIB}\n")
    assert available_memory(machine) == 5 * MIB


def test_this_machine_has_some() -> None:
    assert available_memory() > 0
