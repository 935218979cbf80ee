"""What is not loaded: by a supervisor, because every worker would carry it; by small commands, because they
would wait for it. Time itself is too noisy to test."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ossmount import app
from ossmount.cli.application import Application

HEAVY = {"numpy", "pyarrow", "oss2", "boto3", "opendal", "rich", "grpc"}
OF_MOUNTS = {"trio", "pyfuse3", "pycurl"}
"""What every mount needs, and nobody who only talks to one."""


def loaded_by(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return set(run.stdout.split())


def test_mounting_loads_neither_numerics_nor_sdks() -> None:
    loaded = loaded_by("from ossmount.app import mount")
    assert loaded & HEAVY == set()
    assert loaded >= OF_MOUNTS


@pytest.mark.parametrize("name", ["ControlClient", "list_mounts", "read_statistics", "umount", "warm"])
def test_who_talks_to_a_mount_loads_nothing_of_it(name: str) -> None:
    assert loaded_by(f"from ossmount.app import {name}") & (HEAVY | OF_MOUNTS) == set()


def test_all_that_the_commands_call_is_there() -> None:
    wanted = [name for name in vars(Application) if not name.startswith("_")]
    assert wanted
    for name in wanted:
        assert callable(getattr(app, name))


def test_what_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'unmount'"):
        getattr(app, "unmount")  # noqa: B009 - mypy knows that there is none
