"""The checksum that ties a block's bytes to its name on disk (:meth:`BlockId.digest`). Pure.

Who may touch it: nobody without a new layout version (``disk_layout.VERSION``); every cached block would be
lost.
"""

from __future__ import annotations

import xxhash


def checksum_of(data: bytes | memoryview, digest: bytes) -> int:
    """xxh3_64 of ``data`` seeded with half of the block's digest.

    The seed binds the bytes to the identity: another block's bytes, however intact, do not verify. So a torn
    or stale table slot is a miss, and the block needs no header of its own beside the data.
    """
    value: int = xxhash.xxh3_64_intdigest(data, int.from_bytes(digest[8:], "little"))
    return value
