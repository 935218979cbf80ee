"""Lists that can be read only once: standard input, and what a shell makes of ``<(…)``.

Touch it when lists are kept in another way, or an option that names one is added.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import RUN_SECONDS, Home, Outcome
from tests.support.mounting import needs_fuse

GOOD = b"key,size,etag\na/1,1,e\na/2,1,e\n"
SPARE = ["--endpoint-url", "http://127.0.0.1:9", "--region", "us-east-1", "--no-sign-request"]
"""Nothing is asked of a store: the table has sizes and ETags."""

Run = Callable[..., Outcome]
"""``run(home, list, *words)``."""


@contextmanager
def pipe_of(home: Home, data: bytes) -> Iterator[str]:
    """The name of a pipe through which ``data`` can be read once."""
    path = home.path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    writer.start()
    try:
        yield str(path)
        writer.join(RUN_SECONDS)
        assert not writer.is_alive(), "the pipe was not read to its end"
    finally:
        path.unlink()


def through_pipe(home: Home, data: bytes, *words: str) -> Outcome:
    with pipe_of(home, data) as name:
        return home.run(*(name if word == "LIST" else word for word in words))


def through_standard_input(home: Home, data: bytes, *words: str) -> Outcome:
    process = home.start(*("-" if word == "LIST" else word for word in words), stdin=subprocess.PIPE)
    out, err = process.communicate(data.decode(), timeout=RUN_SECONDS)
    return Outcome(process.returncode, out, err)


@pytest.fixture(params=[through_pipe, through_standard_input])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a command whose word ``LIST`` is such a place."""
    way: Run = request.param
    return way


def test_an_index_is_built_and_cannot_be_refreshed(home: Home, run: Run) -> None:
    target = home.path / "made" / "x.ossidx"
    words = ["index", "build", *SPARE, "--manifest", "LIST", "--base-uri", "s3://b/t/", str(target)]
    built = run(home, GOOD, *words)
    assert built.status == 0, built.err
    assert "manifest standard input below s3://b/t/" in built.out
    refreshed = home.run("index", "refresh", str(target))
    assert refreshed.status == 2
    assert "which cannot be read again; build or mount it again" in refreshed.err
    assert files_in(target.parent) == ["x.ossidx"]


def test_a_file_that_is_only_called_so_can_be_read_again(home: Home) -> None:
    manifest, target = home.path / "stdin-list.csv", home.path / "x.ossidx"
    manifest.write_bytes(GOOD)
    words = [*SPARE, "--manifest", manifest.name, "--base-uri", "s3://b/t/", str(target)]
    assert "manifest stdin-list.csv below" in home.run("index", "build", *words).out
    manifest.write_bytes(GOOD + b"a/3,1,e\n")
    refreshed = home.run("index", "refresh", str(target))
    assert refreshed.status == 0, refreshed.err
    assert "files        3" in home.run("index", "info", str(target)).out


def test_an_error_names_the_line(home: Home, run: Run) -> None:
    target = home.path / "made" / "x.ossidx"
    words = ["index", "build", *SPARE, "--manifest", "LIST", "--base-uri", "s3://b/t/", str(target)]
    refused = run(home, GOOD.replace(b"2,1", b"2,x"), *words)
    assert refused.status == 3
    assert refused.error_lines == [
        "ossmount: standard input:3: the size 'x' is not a number of bytes; correct the row"
    ]
    assert files_in(target.parent) == []


def test_where_it_cannot_be_kept(home: Home) -> None:
    (home.path / "file").touch()
    words = ["index", "build", *SPARE, "--manifest", "LIST", "--base-uri", "s3://b/t/", "file/x.ossidx"]
    refused = through_standard_input(home, GOOD, *words)
    assert refused.status == 4
    assert refused.error_lines[0].endswith(" from - in file: File exists; check space and permissions")


@needs_fuse
@pytest.mark.fuse
def test_the_index_of_the_same_list_is_kept(home: Home, run: Run) -> None:
    """What brought it does not matter; its content does."""
    words = ["mount", *SPARE, "--manifest", "LIST", "--base-uri", "s3://b/t/"]
    said = []
    for data in (GOOD, GOOD, GOOD + b"a/3,1,e\n"):
        mountpoint = home.directory()
        mounted = run(home, data, *words, str(mountpoint))
        assert mounted.status == 0, mounted.err
        assert len(list((mountpoint / "a").iterdir())) == data.count(b"a/")
        assert home.run("umount", str(mountpoint)).status == 0
        said.append("built now" in mounted.err)
    assert said == [True, False, True]


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
