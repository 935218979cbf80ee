"""A set of inode numbers in bits. Pure; level 0 only.

A Python set of a million ints costs about 70 MB, this one 125 KB, because an index numbers its inodes
densely. Sparse numbers cost 128 bytes each.
"""

from __future__ import annotations

_SHIFT = 10
_MASK = (1 << _SHIFT) - 1
_CHUNK_BYTES = (1 << _SHIFT) // 8


class InodeSet:
    """Add, test, clear, count."""

    __slots__ = ("_chunks", "_count")

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"InodeSet({self._count} inodes)"

    def __len__(self) -> int:
        return self._count

    def __contains__(self, ino: int) -> bool:
        chunk = self._chunks.get(ino >> _SHIFT)
        return chunk is not None and bool(chunk[(ino & _MASK) >> 3] & (1 << (ino & 7)))

    def add(self, ino: int) -> bool:
        """True where ``ino`` was not in the set."""
        chunk = self._chunks.get(ino >> _SHIFT)
        if chunk is None:
            chunk = self._chunks[ino >> _SHIFT] = bytearray(_CHUNK_BYTES)
        byte, bit = (ino & _MASK) >> 3, 1 << (ino & 7)
        if chunk[byte] & bit:
            return False
        chunk[byte] |= bit
        self._count += 1
        return True

    def clear(self) -> None:
        """Removes all."""
        self._chunks.clear()
        self._count = 0
