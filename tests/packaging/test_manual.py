"""Manual pages: clean for mandoc, and complete. Touch it when there is another page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ossmount.cli import manual
from ossmount.cli.catalogue import COMMANDS
from ossmount.cli.commands import NO_SOURCE
from ossmount.cli.options import flag_of, parse_mount_options
from ossmount.config import ALL_OPTIONS
from tests.support.programs import output_of, program, run


@pytest.fixture
def pages(tmp_path: Path) -> list[Path]:
    manual.main(str(tmp_path))
    return sorted(tmp_path.rglob("*.[18]"))


def plain(page: str) -> str:
    """The page as it is read, without overstriking."""
    return re.sub(r".\x08", "", output_of(program("mandoc"), "-T", "utf8", "-O", "width=400", stdin=page))


def test_pages_are_where_man_looks(pages: list[Path]) -> None:
    assert [str(Path(*page.parts[-2:])) for page in pages] == ["man1/ossmount.1", "man8/mount.ossmount.8"]


def test_mandoc_lint(pages: list[Path]) -> None:
    done = run(program("mandoc"), "-T", "lint", *map(str, pages))
    said = done.stdout.splitlines()
    # Whether other pages are installed on this machine says nothing of ours.
    assert [line for line in said if "referenced manual not found" not in line] == []


def test_every_command_and_option_is_there() -> None:
    text = plain(manual.ossmount_page())
    assert [command.name for command in COMMANDS if f"ossmount {command.name}" not in text] == []
    assert [name for name in ALL_OPTIONS if flag_of(name) not in text] == []
    assert [what for command in COMMANDS for what, _ in command.examples if what[1:] not in text] == []


@pytest.mark.parametrize(
    "text",
    [".Sh is no macro here", "'quoted' and `ticked`", r"a \fB back\slash", "one. Two. .Three", "a\n\n.B b"],
)
def test_text_stays_text(text: str) -> None:
    shown = plain(f".Dd January 1, 2026\n.Dt X 1\n.Os\n.Sh NAME\n{manual.text_of(text)}\n")
    assert " ".join(text.split()) in " ".join(shown.split())


def test_lines_of_fstab_are_taken() -> None:
    for line in manual._FSTAB:
        source, mountpoint, kind, options, *_ = line.split()
        given = parse_mount_options(options)
        assert kind == "fuse.ossmount"
        assert mountpoint.startswith("/mnt/")
        assert source != NO_SOURCE or "manifest" in {word.name for word in given}
