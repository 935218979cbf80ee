"""When a walk has its index brought into the page cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossmount.index import paging
from ossmount.index.paging import ASK_AGAIN, WHOLE_FILE, Paging


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int, int]]:
    """What the kernel is asked for: the file, from where, how much, what for."""
    calls: list[tuple[str, int, int, int]] = []

    def advise(descriptor: int, start: int, length: int, advice: int) -> None:
        calls.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), start, length, advice))

    monkeypatch.setattr(paging.os, "posix_fadvise", advise)
    return calls


def index_file(folder: Path, size: int = 4096) -> Path:
    path = folder.resolve() / "index"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_once_for_a_walk_and_again_after_a_rest(
    tmp_path: Path, asked: list[tuple[str, int, int, int]]
) -> None:
    clock, path = Clock(), index_file(tmp_path)
    subject = Paging(path, clock)
    assert asked == []
    assert subject.listing()
    assert asked == [(str(path), 0, 0, os.POSIX_FADV_WILLNEED)]
    for _ in range(9):  # each listing is near the one before, the last is far from the first
        clock.now += ASK_AGAIN * 0.9
        assert not subject.listing()
    clock.now += ASK_AGAIN
    assert subject.listing()
    assert len(asked) == 2
    subject.close()


@pytest.mark.parametrize(("size", "wanted"), [(WHOLE_FILE, True), (WHOLE_FILE + 1, False)])
def test_a_large_file_is_read_as_it_is_needed(
    tmp_path: Path, asked: list[tuple[str, int, int, int]], size: int, wanted: bool
) -> None:
    subject = Paging(index_file(tmp_path, size), Clock())
    assert subject.listing() is wanted
    assert bool(asked) is wanted
    subject.close()


def test_closed_twice_it_closes_one_descriptor(
    tmp_path: Path, asked: list[tuple[str, int, int, int]]
) -> None:
    path = index_file(tmp_path)
    subject = Paging(path, Clock())
    subject.close()
    with path.open("rb") as other:  # has the number that was given back
        subject.close()
        assert os.fstat(other.fileno()).st_size == 4096
    assert not subject.listing()
    assert asked == []
