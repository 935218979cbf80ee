"""Introducing files, in a directory that is no mount: it only has to be listed."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from ossmount import system_calls
from ossmount.fuse.introducing import Introducer, Introductions


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of entries that were read, once for each listing."""
    found = list[int]()
    read = system_calls.read_directory

    def noted(*arguments: object) -> int:
        found.append(read(*arguments))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(system_calls, "read_directory", noted)
    return found


def introducer_of(introductions: Introductions, number: int = 0) -> Introducer:
    introducer = introductions.introducer(number)
    assert introducer is not None
    return introducer


def test_a_directory_is_listed_if_it_is_the_one_that_is_meant(tmp_path: Path, listed: list[int]) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").touch()
    introducer = introducer_of(Introductions(1, tmp_path))
    assert introducer.introduce(b"cat", (tmp_path / "cat").stat().st_ino, 0)
    assert introducer.introduce(b"", tmp_path.stat().st_ino, 0)
    assert len(listed) == 2
    assert min(listed) > 0
    assert not introducer.introduce(b"cat", tmp_path.stat().st_ino, 0)
    assert not introducer.introduce(b"dog", 1, 0)
    assert not introducer.introduce(b"cat/1.jpg", 1, 0)
    assert len(listed) == 2, "another generation has come, or the mount has gone"


def test_the_thread_that_introduces_is_known_by_its_number(tmp_path: Path) -> None:
    introductions = Introductions(2, tmp_path)
    introducer_of(introductions, 1)
    assert introductions.introduces(threading.get_native_id())
    assert not introductions.introduces(threading.get_native_id() + 1)
    assert str(tmp_path) in repr(introducer_of(introductions))


def test_without_a_mountpoint_or_prefetchers_nobody_introduces(tmp_path: Path) -> None:
    nowhere, nobody = Introductions(1, None), Introductions(0, tmp_path)
    assert (nowhere.work, nobody.work) == (False, False)
    assert nowhere.introducer(0) is None
    assert not nobody.introduces(threading.get_native_id())
    assert "work=False" in repr(nobody)


def test_a_thread_of_another_pid_namespace_is_a_program(tmp_path: Path) -> None:
    """Its number is 0, as is what stands where no prefetcher has begun: on a handed descriptor for good."""
    assert not Introductions(2, None).introduces(0)
    begun = Introductions(2, tmp_path)
    introducer_of(begun, 1)
    assert not begun.introduces(0)


def test_a_mount_that_may_not_be_listed_is_not_tried_again(
    tmp_path: Path, listed: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "no")

    introductions = Introductions(1, tmp_path)
    introducer, ino = introducer_of(introductions), tmp_path.stat().st_ino
    monkeypatch.setattr(os, "open", refuse)
    with caplog.at_level(logging.INFO):
        assert not introducer.introduce(b"", ino, 0)
        assert not introducer.introduce(b"", ino, 0)
    monkeypatch.undo()
    assert not introducer.introduce(b"", ino, 0)
    assert not introductions.work
    assert listed == []
    assert [record.getMessage() for record in caplog.records] == [
        "prefetchers cannot list the mount ([Errno 13] no): listings are answered in full"
    ]
