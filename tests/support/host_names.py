"""Names for loopback servers in ``/etc/hosts``, for clients that only know virtual-hosted buckets.

The file belongs to the machine: who looks a name up meanwhile, or adds names of their own, must not notice.
Touch it when another client needs a name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

HOSTS = Path("/etc/hosts")

needs_host_names = pytest.mark.skipif(
    not os.access(HOSTS, os.W_OK), reason=f"{HOSTS} cannot be written (run as root)"
)


@contextlib.contextmanager
def host_names(*names: str, hosts: Path = HOSTS) -> Iterator[None]:
    """``names`` lead to 127.0.0.1 until the block ends; only the added line is taken out again.

    Raises PermissionError where the file cannot be written.
    """
    line = f"127.0.0.1 {' '.join(names)} # for a test\n".encode()
    with _alone(hosts) as file:
        before = file.read()
        file.write(line if before.endswith(b"\n") or not before else b"\n" + line)
    try:
        yield
    finally:
        with _alone(hosts) as file:
            _take_out(file, line)


@contextlib.contextmanager
def _alone(hosts: Path) -> Iterator[FileIO]:
    """The file, unbuffered, while no other test changes it."""
    with hosts.open("r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _take_out(file: FileIO, line: bytes) -> None:
    """What stands before the line is not written anew, so that no reader misses it."""
    content = file.read()
    at = content.find(line)
    if at >= 0:
        file.seek(at)
        file.write(content[at + len(line) :])
        file.truncate()
