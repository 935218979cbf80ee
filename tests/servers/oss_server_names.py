"""Names for loopback servers in ``/etc/hosts``, for clients that only know virtual-hosted buckets.

Touch it when another client needs a name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HOSTS = Path("/etc/hosts")


@contextlib.contextmanager
def host_names(*names: str) -> Iterator[None]:
    """``names`` lead to 127.0.0.1 until the block ends; only the added line is taken out again.

    Skips the test where the file cannot be written.
    """
    if not os.access(HOSTS, os.W_OK):
        pytest.skip(
            f"{HOSTS} cannot be written: virtual-hosted names such as {names[0]} need it (run as root)"
        )
    line = f"127.0.0.1 {' '.join(names)}\n"
    before = HOSTS.read_text()
    HOSTS.write_text(before + ("" if before.endswith("\n") else "\n") + line)
    try:
        yield
    finally:
        HOSTS.write_text(before if HOSTS.read_text().replace(line, "") == before else _without(line))


def _without(line: str) -> str:
    """The file as it is now, when another program changed it too, without our line."""
    return HOSTS.read_text().replace(line, "", 1)
