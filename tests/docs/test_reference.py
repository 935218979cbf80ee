"""The documents agree with the parser: generated parts, commands in examples, options, Python blocks."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossmount.cli.catalogue import COMMANDS as COMMAND_TABLE
from ossmount.cli.command import parse, parser_of
from ossmount.cli.entry import choose
from ossmount.cli.options import flag_of, settings_of
from ossmount.cli.reference import cli_page, with_tables
from ossmount.config import ALL_OPTIONS, ENVIRONMENT_PREFIX, from_table

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STALE = "run 'make docs'"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """(page, text) of every code block in ``language``."""
    for page in PAGES:
        for found, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield page.name, text


def commands() -> Iterator[tuple[str, str]]:
    """(page, line) of every ossmount command in shell blocks."""
    for page, text in blocks("sh"):
        for line in text.splitlines():
            if re.match(r"(?:\w+=\S+ )*ossmount ", line):
                yield page, line


COMMANDS = sorted(set(commands()))


def test_cli_page_is_generated() -> None:
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == cli_page(), STALE


def test_configuration_tables_are_generated() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert page == with_tables(page), STALE


@pytest.mark.parametrize("name", sorted(ALL_OPTIONS))
def test_every_option_is_documented(name: str) -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert f"`{flag_of(name)}" in page, STALE
    assert f"`{ENVIRONMENT_PREFIX}{name.upper()}`" in page, STALE


def test_there_are_commands_to_check() -> None:
    assert {"README.md", "cli.md", "configuration.md"} <= {page for page, _ in COMMANDS}


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_parse(page: str, line: str) -> None:
    words = shlex.split(line.partition(" <")[0], comments=True)
    environment = dict(word.split("=", 1) for word in words[: words.index("ossmount")])
    command, rest = choose(words[words.index("ossmount") + 1 :])
    arguments = parse(command, rest)
    settings_of(arguments.given, None, environment)


def mentioned_flags() -> set[str]:
    """Long flags in inline code of hand-written pages."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "cli.md")
    return {
        flag
        for code in _INLINE.findall(text)
        if not code.startswith(("docker", "apt", "timedatectl"))
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)
    }


def test_flags_in_prose_exist() -> None:
    known = {flag for command in COMMAND_TABLE for flag in parser_of(command)._option_string_actions}
    assert mentioned_flags() - known == set()


@pytest.mark.parametrize(("page", "text"), list(blocks("toml")))
def test_toml_blocks_are_settings(page: str, text: str) -> None:
    assert from_table(tomllib.loads(text), page)


def test_python_blocks_compile() -> None:
    for page, text in blocks("python"):
        compile(text, page, "exec")


def test_make_targets_in_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    mentioned = set(re.findall(r"`make ([a-z]+)`", text)) | set(
        re.findall(r"^make ([a-z]+)", text, re.MULTILINE)
    )
    assert {"demo", "test"} <= mentioned
    assert [
        target for target in sorted(mentioned) if not re.search(rf"^{target}:", makefile, re.MULTILINE)
    ] == []
