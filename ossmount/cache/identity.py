"""What a block is called on disk, and the checksum that ties its bytes to that name. Pure.

Who may touch it: nobody without a new layout version (``disk_layout.VERSION``); every cached block would be
lost.
"""

from __future__ import annotations

from hashlib import blake2b

import xxhash

from ossmount.model import BlockId

DIGEST_SIZE = 16
"""Bytes of a block's digest: 2^64 work for a collision, far beyond any number of blocks."""


def digest_of(block: BlockId) -> bytes:
    """16 bytes that stand for (store, key, etag, offset, length).

    BLAKE2b and not the five times faster XXH3: whoever may name objects in a bucket chooses the input, and
    XXH3 collisions can be constructed. A collision would give one object's bytes for another's. The price is
    0.4 µs per block. The lengths in front make the concatenation unambiguous whatever the strings contain.
    """
    target, offset, length = block
    store, key, etag, _size = target
    text = f"{len(store)} {len(key)} {len(etag)} {offset} {length}\n{store}{key}{etag}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE).digest()


def checksum_of(data: bytes, digest: bytes) -> int:
    """xxh3_64 of ``data`` seeded with half of the block's digest.

    The seed binds the bytes to the identity: another block's bytes, however intact, do not verify. So a torn
    or stale table slot is a miss, and the block needs no header of its own beside the data.
    """
    value: int = xxhash.xxh3_64_intdigest(data, int.from_bytes(digest[8:], "little"))
    return value
