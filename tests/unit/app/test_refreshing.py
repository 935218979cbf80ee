"""A mount that refreshes: what its supervisor is asked for, and when; without processes and clocks.

Touch it when the order of the steps changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ossmount.app.composition import plan_mount
from ossmount.app.refreshing import FORGET_AGAIN_SECONDS, FORGET_TRIES, MountRefresh, PinnedIndex, _Pins
from ossmount.app.runtime import MountRecord, RefreshState
from ossmount.config import Settings
from ossmount.fuse import forgetting
from tests.support.index_files import index_of, numbered_tree

INTERVAL = 600.0


class Obeying:
    """A supervisor that does at once what a refresh asks it for, but for what is to come later.

    ``deaths``: so many of the processes that tell the kernel what changed die.
    """

    def __init__(self) -> None:
        self.deaths = 0
        self.later_: list[tuple[float, Callable[[Any], None]]] = []

    def errand(self, work: Callable[[], bytes], done: Callable[[Any, bytes], None]) -> None:
        if self.deaths and "forget_changes" in repr(work):
            self.deaths -= 1
            done(self, b"")
        else:
            done(self, work())

    def swap(self, serve: object, prefetch: object, done: Callable[[Any, None], None]) -> bool:
        done(self, None)
        return True

    def later(self, seconds: float, callback: Callable[[Any], None]) -> None:
        self.later_.append((seconds, callback))

    def pass_time(self) -> list[float]:
        """Everything that was to come later comes; after how long."""
        due, self.later_ = self.later_, []
        for _, callback in due:
            callback(self)
        return [seconds for seconds, _ in due]


@pytest.fixture
def supervising() -> Any:
    return Obeying()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return numbered_tree(tmp_path / "source", 40)


@pytest.fixture
def index(source: Path, tmp_path: Path) -> Path:
    return index_of(source, tmp_path / "x.ossidx")


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Names that the kernel was told to forget."""
    names: list[bytes] = []

    def forget_name(_: int, name: bytes) -> bool:
        names.append(name)
        return True

    monkeypatch.setattr(forgetting, "forget_name", forget_name)
    monkeypatch.setattr(forgetting, "forget_attributes", lambda _: True)
    return names


@pytest.fixture
def runtime(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a mount."""
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(tmp_path / "run"))
    return record(index, tmp_path).write()


def record(index: Path, tmp_path: Path) -> MountRecord:
    return MountRecord(str(tmp_path / "mnt"), "source", str(index), os.getpid())


@pytest.fixture
def refresh(index: Path, runtime: Path, tmp_path: Path) -> MountRefresh:
    plan = plan_mount(index, Settings(), runtime)
    return MountRefresh(plan, PinnedIndex(index), record(index, tmp_path), INTERVAL)


def test_of_many_generations_the_supervisor_holds_two(index: Path) -> None:
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    pins = _Pins(PinnedIndex(index))
    for _ in range(5):
        before, new = pins.current, PinnedIndex(index)
        pins.advance(new)
        assert (pins.current, pins.previous) == (new, before)
        assert before.path.stat().st_ino == new.path.stat().st_ino == index.stat().st_ino
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before + 2
    for pin in (pins.current, before):
        pin.close()


def test_the_kernel_forgets_though_the_record_cannot_be_written(
    source: Path, runtime: Path, refresh: MountRefresh, supervising: Any, forgotten: list[bytes]
) -> None:
    (runtime / f".mount.json.{os.getpid()}").mkdir()  # where the new one would be written
    (source / "class0" / "new").write_bytes(b"one more")
    refresh.request(supervising)
    assert forgotten == [b"new"]
    state = RefreshState.read(runtime)
    assert not state.running
    assert state.outcome["refreshed"]["added"] == 1


def test_an_interval_begins_anew_with_each_refresh(refresh: MountRefresh, supervising: Any) -> None:
    """However many were asked for meanwhile, one is waited for."""
    refresh.start(supervising)
    for _ in range(3):
        refresh.request(supervising)
    assert supervising.pass_time() == 4 * [INTERVAL]
    for _ in range(2):
        assert supervising.pass_time() == [INTERVAL]


@pytest.mark.parametrize("deaths", [1, FORGET_TRIES - 1])
def test_the_kernel_is_told_again_what_changed_if_who_tells_it_dies(
    deaths: int, source: Path, runtime: Path, refresh: MountRefresh, supervising: Any, forgotten: list[bytes]
) -> None:
    (source / "class0" / "new").write_bytes(b"one more")
    supervising.deaths = deaths
    refresh.request(supervising)
    for _ in range(deaths):
        assert (RefreshState.read(runtime).running, forgotten) == (True, [])
        assert supervising.pass_time() == [FORGET_AGAIN_SECONDS]
    assert (RefreshState.read(runtime).running, forgotten) == (False, [b"new"])
    assert RefreshState.read(runtime).outcome["refreshed"]["added"] == 1


def test_a_kernel_that_cannot_be_told_is_spoken_of(
    source: Path, runtime: Path, refresh: MountRefresh, supervising: Any, forgotten: list[bytes]
) -> None:
    (source / "class0" / "new").write_bytes(b"one more")
    supervising.deaths = FORGET_TRIES
    refresh.request(supervising)
    for _ in range(FORGET_TRIES - 1):
        supervising.pass_time()
    assert forgotten == []
    assert "the kernel was not told what changed" in str(RefreshState.read(runtime).outcome)
