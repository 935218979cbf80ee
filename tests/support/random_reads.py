"""Compares files with their source at random odd places: pread, mmap, sendfile and readv.

A program of its own, so that a read that hangs can be killed. Touch it when there is another way to read.

    python -m tests.support.random_reads SOURCE MOUNTPOINT READS
"""

from __future__ import annotations

import mmap
import os
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path

LONGEST = 300_000
"""Bytes; more than two kernel requests, so that some reads span them."""


def by_pread(fd: int, offset: int, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := os.pread(fd, length - len(data), offset + len(data))):
        data += more
    return data


def by_mmap(fd: int, offset: int, length: int) -> bytes:
    if os.fstat(fd).st_size == 0:
        return b""
    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as view:
        return view[offset : offset + length]


def by_sendfile(fd: int, offset: int, length: int) -> bytes:
    """Through a socket pair, in pieces that fit into its buffer."""
    sender, receiver = socket.socketpair()
    with sender, receiver:
        data = b""
        while len(data) < length:
            sent = os.sendfile(sender.fileno(), fd, offset + len(data), min(32768, length - len(data)))
            if sent == 0:
                break
            data += receiver.recv(sent, socket.MSG_WAITALL)
    return data


def by_readv(fd: int, offset: int, length: int) -> bytes:
    """Into three buffers of unlike sizes."""
    os.lseek(fd, offset, os.SEEK_SET)
    buffers = [bytearray(length // 3), bytearray(1), bytearray(length - length // 3)]
    count = os.readv(fd, buffers)
    return b"".join(buffers)[: min(count, length)]


WAYS: tuple[Callable[[int, int, int], bytes], ...] = (by_pread, by_mmap, by_sendfile, by_readv)


def place(dice: random.Random, size: int) -> tuple[int, int]:
    """An odd offset, and a length; now and then over the end of the file."""
    offset = dice.randrange(size + 2) | 1 if size > 1 else dice.randint(0, 2)
    return offset, dice.choice([1, 7, 4095, 4097, 131_073, dice.randint(1, LONGEST)])


def main() -> int:
    source, mounted, reads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    names = sorted(path.name for path in source.iterdir())
    dice = random.Random(5)
    for number in range(reads):
        name, way = names[number % len(names)], WAYS[number // len(names) % len(WAYS)]
        with (source / name).open("rb") as right, (mounted / name).open("rb") as found:
            offset, length = place(dice, os.fstat(right.fileno()).st_size)
            expected = os.pread(right.fileno(), length, offset)
            if way(found.fileno(), offset, length) != expected:
                print(f"{name}: {way.__name__} of {length} bytes at {offset} differs")  # noqa: T201
                return 1
    print(f"{reads} reads equal")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
