"""Blocks for the cache's tests, and what a directory weighs."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from ossmount.cache.disk import DiskCache
from ossmount.model import BlockId, ObjectId

MIB = 1 << 20


def block(key: str, length: int, etag: str = "e1", offset: int = 0) -> BlockId:
    return BlockId(ObjectId("s3://bucket", key, etag, length + offset), offset, length)


def content(key: str, length: int) -> bytes:
    """Bytes that only this key has."""
    return random.Random(key).randbytes(length)


def put(cache: DiskCache, key: str, length: int) -> BlockId:
    made = block(key, length)
    cache.put(made, content(key, length))
    return made


def disk_usage(directory: Path) -> int:
    """Bytes that the directory takes, by ``du``: blocks of the file system, not lengths of files."""
    out = subprocess.run(["du", "-s", "-B1", str(directory)], capture_output=True, text=True, check=False)
    return int(out.stdout.split()[0])
