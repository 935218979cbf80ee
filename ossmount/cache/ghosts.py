"""The memory of declined blocks: when was a newcomer last turned away? Feeds ``policy``.

Shared, lossy, unlocked.
"""

from __future__ import annotations

import os
import struct

from ossmount.cache.disk_layout import GHOST_BYTES, ghost_entries
from ossmount.cache.files import File, write_all

_ENTRY = struct.Struct("<II")
TICKS = 4096
"""Resolution: ticks per cache size of traffic. 32 bits of ticks last for a million cache sizes."""


class Ghosts:
    """One entry per hash value in a sparse file; a later block takes an earlier one's entry.

    Nothing depends on an entry being right: a wrong one misleads the policy by one block. What counts is the
    file's size, which is part of the cap: it has it from the start, and no entry makes it larger.
    """

    def __init__(self, file: File, capacity: int) -> None:
        """Brings the file to its size for ``capacity``. Raises OSError."""
        entries = ghost_entries(capacity)
        os.ftruncate(file.fd, entries * GHOST_BYTES)
        self._file = file
        self._mask = entries - 1
        self._tick = max(1, capacity // TICKS)
        self._cut = False

    def __repr__(self) -> str:
        return f"Ghosts({self._mask + 1} entries, {self._file!r})"

    def distance(self, digest: bytes, now: int) -> int | None:
        """Bytes of traffic since the block was declined, None where that is not remembered.

        Raises OSError.
        """
        raw = os.pread(self._file.fd, _ENTRY.size, self._position(digest))
        self._cut = len(raw) < _ENTRY.size
        if self._cut:
            return None
        fingerprint: int
        tick: int
        fingerprint, tick = _ENTRY.unpack(raw)
        then = (tick - 1) * self._tick
        if tick == 0 or fingerprint != int.from_bytes(digest[8:12], "little") or then > now:
            return None
        return now - then

    def note(self, digest: bytes, now: int) -> None:
        """Remembers that the block, the last one looked for, was declined now. Raises OSError."""
        if self._cut:  # by a process with a smaller cache, of which this one has not heard yet
            return
        tick = (now // self._tick + 1) & 0xFFFFFFFF
        entry = _ENTRY.pack(int.from_bytes(digest[8:12], "little"), tick)
        write_all(self._file.fd, entry, self._position(digest))

    def _position(self, digest: bytes) -> int:
        return (int.from_bytes(digest[:8], "little") & self._mask) * _ENTRY.size
