"""Files in a directory that others may write, too: replaced in one step, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

from ossmount.k8s.folder import LEVELS_MAX, Folder

NAME = "error.json"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_not_rewritten(tmp_path: Path) -> None:
    """Who reads the old file reads it to its end, whatever is written meanwhile."""
    with Folder.open(tmp_path) as folder:
        folder.write(NAME, "a long text of an earlier failure")
        with (tmp_path / NAME).open() as reader:
            assert reader.read(6) == "a long"
            folder.write(NAME, "short")
            assert reader.read() == " text of an earlier failure"
        assert folder.read(NAME, 100) == "short"
    assert names(tmp_path) == [NAME]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Folder.open(tmp_path) as folder:
        folder.write(NAME, "old")
        with monkeypatch.context() as patched:
            patched.setattr("ossmount.k8s.folder.os.fchown", full)
            with pytest.raises(OSError, match="No space left"):
                folder.write(NAME, "new", os.geteuid())
        assert folder.read(NAME, 100) == "old"
    assert names(tmp_path) == [NAME]


@pytest.mark.parametrize("squatted", [NAME, f".{NAME}.new"])
def test_links_in_the_way_are_replaced_and_never_followed(tmp_path: Path, squatted: str) -> None:
    precious, directory = tmp_path / "precious", tmp_path / "directory"
    precious.write_text("precious")
    directory.mkdir()
    (directory / squatted).symlink_to(precious)
    with Folder.open(directory) as folder:
        folder.write(NAME, "ours")
        assert folder.read(NAME, 100) == "ours"
    assert precious.read_text() == "precious"
    assert names(directory) == [NAME]


def test_nothing_but_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with Folder.open(tmp_path) as folder:
        assert [folder.read(name, 100) for name in ("link", "pipe", "missing")] == [None] * 3


def nested(directory: Path, levels: int) -> None:
    """``levels`` directories in each other; no path may be as long as those of some hundred."""
    with contextlib.chdir(directory):
        for _ in range(levels):
            os.mkdir("d")  # noqa: PTH102 - where the process stands
            os.chdir("d")


def test_directories_in_each_other_are_removed_as_far_as_that_is_no_trap(tmp_path: Path) -> None:
    """Another container of the Pod may make them, and the node plugin serves all other volumes meanwhile."""
    for name, levels in (("usual", 3), ("trap", 600)):
        (tmp_path / name).mkdir()
        nested(tmp_path / name, levels)
    with Folder.open(tmp_path) as folder:
        folder.remove_folder("usual")
        with pytest.raises(OSError, match="Directory not empty"):
            folder.remove_folder("trap")
    assert names(tmp_path) == ["trap"]
    assert LEVELS_MAX < 600
    subprocess.run(["rm", "-rf", tmp_path / "trap"], check=True)  # shutil fails as the plugin did
