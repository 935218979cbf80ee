"""Writing blocks past the page cache.

A block that is kept has just gone to its program, or into the kernel's pages of its own file. A second
copy among the segment's pages costs 25 to 140 µs of CPU for 68 KB (the more, the more the machine lacks free
pages) and as much memory as the data set; written directly it costs 10 µs. What may live here: the staging
buffer and what ``O_DIRECT`` (open(2)) asks for: offset, length and memory in multiples of the disk's sectors.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence

from ossmount.cache.files import File, write_all

ALIGNMENT = 4096
"""The largest sector in use, and the page: direct and other writes never share a page."""

LEAST_BYTES = 256 << 10
"""Below it waiting for the disk costs more than the copy saves, and the padding more than a 64th."""

BUFFER_BYTES = 2 << 20
"""Written at once; a disk's full speed is reached far below."""


class DirectWriter:
    """Writes to segments. Not thread-safe; makes its buffer at the first use."""

    def __init__(self) -> None:
        self._buffer: mmap.mmap | None = None
        self._refused = False

    def __repr__(self) -> str:
        return f"DirectWriter(refused={self._refused})"

    def write(self, file: File, parts: Sequence[bytes], position: int, end: int) -> tuple[int, int] | None:
        """Writes ``parts`` one behind the other, from the first aligned offset at or behind ``position``.

        Returns that offset and the aligned one behind the padding; None where it wrote nothing: too little,
        no room before ``end``, or a file system that cannot (tmpfs of old). Raises OSError as a write does.
        """
        size = sum(map(len, parts))
        start = _aligned(position)
        if self._refused or size < LEAST_BYTES or start + _aligned(size) > end:
            return None
        direct = self._opened(file)
        if direct is None:
            return None
        try:
            if all(map(_is_aligned, parts)):
                return start, _write_as_they_are(direct, file, parts, start)
            return start, self._write(direct, file, parts, start)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._refused = True
            return None

    def _opened(self, file: File) -> File | None:
        """The same file by another descriptor: the lock stays with the first."""
        if file.direct is None:
            try:
                fd = os.open(f"/proc/self/fd/{file.fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
            except OSError:
                self._refused = True
                return None
            file.direct = File(fd)
        return file.direct

    def _write(self, direct: File, file: File, parts: Sequence[bytes], offset: int) -> int:
        if self._buffer is None:
            self._buffer = mmap.mmap(-1, BUFFER_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        filled = 0
        for part in parts:
            rest = memoryview(part)
            while rest:
                taken = min(len(rest), BUFFER_BYTES - filled)
                self._buffer[filled : filled + taken] = rest[:taken]
                rest, filled = rest[taken:], filled + taken
                if filled == BUFFER_BYTES:
                    offset = _flush(direct, file, memoryview(self._buffer), offset)
                    filled = 0
        if filled:
            padded = _aligned(filled)
            self._buffer[filled:padded] = bytes(padded - filled)
            offset = _flush(direct, file, memoryview(self._buffer)[:padded], offset)
        return offset


def _aligned(number: int) -> int:
    return -(-number // ALIGNMENT) * ALIGNMENT


def _is_aligned(part: bytes) -> bool:
    """Whether ``part`` is a whole mapping: memory that a disk takes bytes from, and nothing to pad."""
    view: object = part
    return isinstance(view, memoryview) and isinstance(view.obj, mmap.mmap) and view.nbytes == len(view.obj)


def _write_as_they_are(direct: File, file: File, parts: Sequence[bytes], offset: int) -> int:
    """Writes aligned ``parts`` without a copy; what a nearly full disk leaves goes the other way."""
    size = sum(map(len, parts))
    written = os.pwritev(direct.fd, parts, offset)
    if written < size:
        write_all(file.fd, b"".join(parts)[written:], offset + written)
    return offset + size


def _flush(direct: File, file: File, data: memoryview, offset: int) -> int:
    """Writes all of ``data``; what a nearly full disk leaves of it goes the other way, and says so there."""
    written = os.pwrite(direct.fd, data, offset)
    if written < len(data):
        write_all(file.fd, bytes(data[written:]), offset + written)
    return offset + len(data)
