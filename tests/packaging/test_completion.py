"""The shells themselves say what they would offer. Touch it when another kind of value can be completed."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ossmount.cli.catalogue import COMMANDS
from ossmount.cli.completion import SHELLS, Value, offer_of
from ossmount.cli.completion_scripts import SCRIPTS
from ossmount.config import ALL_OPTIONS, MountSettings, options_of
from tests.support.programs import output_of, program

OFFERS = [offer_of(command) for command in COMMANDS]

Complete = Callable[[str], set[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the completed line is typed."""
    (tmp_path / "a directory").mkdir()
    (tmp_path / "alone.tsv").touch()
    return tmp_path


def in_bash(line: str, folder: Path) -> set[str]:
    """What bash offers for the last word of ``line``; words are broken at '=' as readline does."""
    words = [part for word in line.split(" ") for part in _broken(word)]
    script = "\n".join(
        [
            SCRIPTS["bash"](OFFERS),
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))})",
            f"COMP_CWORD={len(words) - 1}",
            "_ossmount",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    return set(filter(None, output_of("bash", "-u", stdin=script, cwd=folder).splitlines()))


def _broken(word: str) -> list[str]:
    flag, equals, value = word.partition("=")
    if not (equals and flag.startswith("--")):
        return [word]
    return [flag, equals, value] if value else [flag, equals]


def in_fish(line: str, folder: Path) -> set[str]:
    script = f"{SCRIPTS['fish'](OFFERS)}\ncomplete --do-complete {shlex.quote(line)}\n"
    out = output_of(program("fish"), "--no-config", stdin=script, cwd=folder)
    return {text.partition("\t")[0].rpartition("=")[2] for text in out.splitlines()}


@pytest.mark.parametrize("shell", [in_bash, in_fish], ids=["bash", "fish"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ossmount mo", {"mount"}),
        ("ossmount index ", {c.words[1] for c in COMMANDS if c.words[0] == "index"}),
        ("ossmount index bu", {"build"}),
        ("ossmount mount --layo", {"--layout"}),
        ("ossmount mount --layout ", {"keys", "labels"}),
        ("ossmount mount --layout=l", {"labels"}),
        ("ossmount mount s3://b/ --log-level w", {"warning"}),
        ("ossmount index build --unlabelled ", {"keep", "skip"}),
        ("ossmount completion ", set(SHELLS)),
        ("ossmount umount --la", {"--lazy"}),
        ("ossmount umount /nowhere/at/all", set()),
        ("ossmount mount --cache-size ", set()),
    ],
)
def test_offered(shell: Callable[[str, Path], set[str]], line: str, expected: set[str], folder: Path) -> None:
    assert shell(line, folder) == expected


def test_files_and_directories(folder: Path) -> None:
    assert in_bash("ossmount mount --cache-dir a", folder) == {"a directory"}
    assert in_bash("ossmount mount --manifest a", folder) == {"a directory", "alone.tsv"}
    assert in_bash("ossmount index info al", folder) == {"alone.tsv"}
    assert in_bash("ossmount mount s3://b/ a", folder) == {"a directory"}
    assert in_fish("ossmount mount --cache-dir a", folder) == {"a directory/"}
    assert in_fish("ossmount index info al", folder) == {"alone.tsv"}


def test_bash_offers_every_command_and_flag(folder: Path) -> None:
    assert in_bash("ossmount ", folder) == {c.words[0] for c in COMMANDS} | {"--help", "--version"}
    for offer in OFFERS:
        names = {name for flag in offer.flags for name in flag.names if name.startswith("--")}
        assert in_bash(f"ossmount {' '.join(offer.words)} --", folder) == names


def test_bash_registers_it() -> None:
    script = f"{SCRIPTS['bash'](OFFERS)}\ncomplete -p ossmount"
    assert output_of("bash", stdin=script).strip() == "complete -F _ossmount ossmount"


def test_bash_is_tidy() -> None:
    output_of(program("shellcheck"), "--shell", "bash", "-", stdin=SCRIPTS["bash"](OFFERS))


def test_scripts_of_the_repository_are_tidy() -> None:
    scripts = sorted((Path(__file__).parents[2] / "packaging").glob("*.sh"))
    output_of(program("shellcheck"), "--severity", "warning", *map(str, scripts))


@contextlib.contextmanager
def zsh_on_terminal(folder: Path) -> Iterator[int]:
    """A terminal on which zsh with the script in it waits for a line."""
    zsh = program("zsh")
    (folder / "script").write_text(SCRIPTS["zsh"](OFFERS))
    ours, its = os.openpty()
    process = subprocess.Popen(
        [zsh, "-f", "-i"],
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "TERM": "dumb", "COLUMNS": "200", "HOME": str(folder)},
        start_new_session=True,
    )
    os.close(its)
    try:
        os.write(ours, b"PS1=; autoload -Uz compinit; compinit -u -D; source ./script; echo rea''dy\n")
        read_until(ours, "ready")
        yield ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(descriptor: int, expected: str, seconds: float = 20.0) -> str:
    """What the terminal shows until ``expected`` is among it; fails after ``seconds``."""
    shown, deadline = "", time.monotonic() + seconds
    while expected not in shown:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            pytest.fail(f"no {expected!r} in {shown!r}")
        shown += os.read(descriptor, 65536).decode(errors="replace")
    return shown


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ossmount comp", "ossmount completion "),
        ("ossmount mount --layout ", "labels"),
        ("ossmount mount --unl", "--unlabelled="),
        ("ossmount index rep", "ossmount index report "),
    ],
)
def test_zsh_offers(line: str, expected: str, folder: Path) -> None:
    with zsh_on_terminal(folder) as terminal:
        os.write(terminal, f"{line}\t\t".encode())
        read_until(terminal, expected)


def test_zsh_autoloads_it(folder: Path) -> None:
    (folder / "_ossmount").write_text(SCRIPTS["zsh"](OFFERS))
    script = "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[ossmount]"
    assert output_of(program("zsh"), "-f", "-c", script, cwd=folder).strip() == "_ossmount"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_syntax(shell: str, folder: Path) -> None:
    (folder / "script").write_text(SCRIPTS[shell](OFFERS))
    output_of(program(shell), "-n" if shell == "zsh" else "--no-execute", str(folder / "script"))


def test_the_command_writes_them() -> None:
    for shell in SHELLS:
        assert output_of(sys.executable, "-m", "ossmount", "completion", shell) == SCRIPTS[shell](OFFERS)


def test_values_come_from_the_options() -> None:
    (mount,) = [offer for offer in OFFERS if offer.words == ("mount",)]
    by_name = {name: flag for flag in mount.flags for name in flag.names}
    assert by_name["--layout"].choices == ALL_OPTIONS["layout"].choices
    assert by_name["--cache-dir"].value is Value.DIRECTORY
    assert by_name["--allow-other"].value is Value.NOTHING
    assert by_name["--uid"].value is Value.TEXT
    assert {f"--{name.replace('_', '-')}" for name in options_of(MountSettings)} <= by_name.keys()
