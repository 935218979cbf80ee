"""Going into the background: the caller learns whether it serves, and nothing holds its output."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from ossmount.app.daemon import in_background
from ossmount.errors import BucketMissing, MountError

PATIENCE = 20.0


def test_returns_when_it_serves_and_not_when_it_ends() -> None:
    go_on, tell = os.pipe()
    alive, life = os.pipe()

    def run(on_serving: Callable[[], None]) -> int:
        os.close(tell)
        on_serving()
        os.read(go_on, 1)
        return 0

    assert in_background(run) == 0
    os.close(life)
    assert not select.select([alive], [], [], 0)[0], "it ended before it was told to"
    os.close(tell)
    assert select.select([alive], [], [], PATIENCE)[0], "it did not end"
    os.close(go_on)
    os.close(alive)


def test_its_error_is_the_callers() -> None:
    def run(on_serving: Callable[[], None]) -> int:
        raise BucketMissing("no bucket s3://b", "check the name")

    with pytest.raises(BucketMissing, match="no bucket s3://b; check the name"):
        in_background(run)


def test_a_foreign_exception_is_one_line() -> None:
    with pytest.raises(MountError, match="the mount failed: ZeroDivisionError"):
        in_background(lambda on_serving: 1 // 0)


def test_death_before_serving_is_an_error() -> None:
    with pytest.raises(MountError, match=r"died before it served; run again with --foreground"):
        in_background(lambda on_serving: os._exit(3))


def test_it_leaves_terminal_directory_and_session(tmp_path: Path) -> None:
    found, answer = os.pipe()

    def run(on_serving: Callable[[], None]) -> int:
        streams = {str(Path(f"/proc/self/fd/{n}").readlink()) for n in (0, 1, 2)}
        os.write(answer, f"{streams} {Path.cwd()} {os.getsid(0)}".encode())
        on_serving()
        return 0

    assert in_background(run) == 0
    text = os.read(found, 1000).decode()
    assert text.startswith("{'/dev/null'} / ")
    assert int(text.split()[-1]) != os.getsid(0)
    os.close(found)
    os.close(answer)
