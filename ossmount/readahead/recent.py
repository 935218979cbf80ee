"""The blocks that were fetched last, in this process's memory. Pure bookkeeping; loop only."""

from __future__ import annotations

from collections import OrderedDict

from ossmount.model import BlockId

RECENT_BYTES = 16 << 20
"""Bridges the READs of one file by a dozen readers at once: the kernel asks for at most 1 MiB. Each worker
process has its own, and all together shall stay small (issue: 300 MB)."""


class RecentBlocks:
    """Least recently used blocks up to ``capacity`` bytes: the memory tier where none is given."""

    def __init__(self, capacity: int = RECENT_BYTES) -> None:
        self._capacity = capacity
        self._bytes = 0
        self._blocks: OrderedDict[BlockId, bytes] = OrderedDict()

    def __repr__(self) -> str:
        return f"RecentBlocks({len(self._blocks)} blocks, {self._bytes}/{self._capacity} bytes)"

    def get(self, block: BlockId) -> bytes | None:
        """The block, now the most recent; None where it is not kept."""
        data = self._blocks.get(block)
        if data is not None:
            self._blocks.move_to_end(block)
        return data

    def put(self, block: BlockId, data: bytes) -> None:
        """Keeps ``data`` unless it is larger than the whole."""
        if len(data) > self._capacity or block in self._blocks:
            return
        self._blocks[block] = data
        self._bytes += len(data)
        while self._bytes > self._capacity:
            self._bytes -= len(self._blocks.popitem(last=False)[1])

    def close(self) -> None:
        """Frees the memory."""
        self._blocks.clear()
        self._bytes = 0
