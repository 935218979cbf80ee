"""Listings by name only, on a real mount: what the kernel shows of them, and what it asks for afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ossmount.fuse.brief_listings import ASKS_OFTEN
from ossmount.model import ROOT_INODE
from tests.support.fake_filesystem import FakeFileSystem, small_tree
from tests.support.mounting import Mounted, needs_fuse

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(60)]

Mount = Callable[..., Mounted]


def lookups(mounted: Mounted) -> int:
    return int(os.getxattr(mounted.path, "user.fake.lookups"))


def sizes_in(directory: Path) -> list[int]:
    return [path.stat().st_size for path in sorted(directory.iterdir())]


def expected(directory: str) -> list[int]:
    return [size for path, size in sorted(small_tree().items()) if path.startswith(f"{directory}/")]


@pytest.fixture
def brief(mount: Mount) -> Mounted:
    """A mount in which the files of ``class1`` have been introduced, and no others."""
    mounted = mount("serve_small", 1, "--introduce", "class1")
    mounted.wait_for(lambda: "introduced class1" in mounted.log)
    return mounted


def test_names_kinds_and_numbers_are_shown_and_attributes_asked_for(brief: Mounted) -> None:
    fs = FakeFileSystem(small_tree())
    directory = fs.lookup(ROOT_INODE, b"class0").ino
    with os.scandir(brief.path / "class0") as entries:
        found = {entry.name: (entry.inode(), entry.is_file(), entry.is_symlink()) for entry in entries}
    names = [path.partition("/")[2] for path in small_tree() if path.startswith("class0/")]
    assert found == {name: (fs.lookup(directory, name.encode()).ino, True, False) for name in names}

    before = lookups(brief)
    assert sizes_in(brief.path / "class0") == expected("class0")
    assert lookups(brief) - before == len(names)
    assert sizes_in(brief.path / "class0") == expected("class0")
    assert lookups(brief) - before == len(names), "the kernel keeps what it was told"


def test_files_that_were_introduced_are_not_asked_for(brief: Mounted) -> None:
    before = lookups(brief)
    assert sizes_in(brief.path / "class1") == expected("class1")
    assert lookups(brief) == before


def test_directories_are_shown_with_their_attributes(brief: Mounted) -> None:
    paths = sorted(brief.path.iterdir())
    before = lookups(brief)
    assert [path.name for path in paths if path.is_dir()] == ["class0", "class1", "class2", "deep"]
    assert lookups(brief) == before, "files beside directories are told in full too"


def test_who_asks_for_each_is_told_all_from_the_next_directory(brief: Mounted) -> None:
    assert len(expected("class0")) >= ASKS_OFTEN
    (brief.path / "class2").stat()
    assert sizes_in(brief.path / "class0") == expected("class0")
    before = lookups(brief)
    assert sizes_in(brief.path / "class2") == expected("class2")
    assert lookups(brief) == before
