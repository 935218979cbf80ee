"""What malloc does with freed memory, in a process of its own: it cannot be told to forget."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from ossmount.fuse.system_calls import keep_freed_memory

if {keep}:
    keep_freed_memory(8 << 20)
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [b"x" * (16 << 10) for _ in range(200)]
    pieces.clear()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def faults(*, keep: bool) -> int:
    """Page faults of the last of ten rounds that allocate and free 3 MiB."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_kept_memory_is_not_faulted_in_again() -> None:
    assert faults(keep=True) < 50 < 200 < faults(keep=False)
