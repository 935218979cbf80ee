"""Calls through libc, where they can be seen to work without privileges."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import pytest

from ossmount.system_calls import trim_heap

BLOCK, BLOCKS = 100_000, 1000
"""Too small for malloc to map each by itself, and a hundred megabytes together."""


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="a libc without malloc_trim")
def test_freed_memory_is_given_back_although_some_behind_it_is_in_use() -> None:
    blocks = [b"x" * BLOCK for _ in range(BLOCKS)]
    full = resident()
    del blocks[:-1]
    trim_heap()
    assert resident() < full - BLOCK * BLOCKS // 2
    assert len(blocks) == 1
