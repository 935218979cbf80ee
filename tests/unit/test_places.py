"""Questions to a path are answered, whatever stands there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossmount.places import is_directory, is_file, is_missing, is_no_file, is_pipe, is_still, replacing


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "missing", "kind"),
    [
        ("file", False, is_file),
        ("directory", False, is_directory),
        ("pipe", False, is_pipe),
        ("loop", False, None),
        ("nothing", True, None),
        ("file/below", True, None),
        ("long" * 64, True, None),
        ("nul\0", True, None),
        ("\ud800", True, None),
    ],
)
def test_what_stands_there(places: Path, name: str, missing: bool, kind: object) -> None:
    path = f"{places}/{name}"
    assert is_missing(path) is missing
    assert [ask for ask in (is_file, is_directory, is_pipe) if ask(path)] == ([kind] if kind else [])
    assert is_no_file(path) is (kind in {is_directory, is_pipe})


def test_an_open_file_that_was_removed_or_replaced_is_another(tmp_path: Path) -> None:
    place = tmp_path / "x"
    with place.open("w") as file:
        assert is_still(file.fileno(), place)
        place.unlink()
        assert not is_still(file.fileno(), place)
        place.touch()
        assert not is_still(file.fileno(), place)


def test_a_file_takes_the_place_of_another_when_all_went_well(tmp_path: Path) -> None:
    place = tmp_path / "x"
    for text in (b"old", b"new"):
        with replacing(place) as output:
            output.write(text)
            assert not place.exists() or place.read_bytes() == b"old"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"new")]


def test_what_fails_replaces_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "x"
    place.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(place) as output:
        output.writelines([b"new", None])  # type: ignore[list-item]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]


def test_what_a_killed_process_of_this_number_left_is_no_obstacle(tmp_path: Path) -> None:
    """In a container the command has the same number each time."""
    place = tmp_path / "x"
    (tmp_path / f".x.{os.getpid()}").write_bytes(b"half")
    with replacing(place) as output:
        output.write(b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"new")]
