"""What a process keeps of the segments it reads: their open files, and which blocks it has verified."""

from __future__ import annotations

import resource
from collections.abc import Collection

from ossmount.cache.files import File
from ossmount.cache.folder import Folder
from ossmount.cache.table import Place

VERIFIED_BLOCKS = 1 << 16
"""Blocks remembered as verified by this process (about 10 MB at most); then it starts afresh."""


class OpenSegments:
    """Segments of ``folder`` that are open for reading, at most a quarter of the descriptors allowed.

    Thread-safe without a lock (a fork might inherit it held): who goes through them takes a copy in one step.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._most = max(64, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
        self._files: dict[int, File] = {}

    def __repr__(self) -> str:
        return f"OpenSegments({len(self._files)}/{self._most})"

    def find(self, number: int) -> File | None:
        """The segment's file; None where it has been evicted. Raises OSError."""
        return self._files.get(number) or self._open(number)

    def _open(self, number: int) -> File | None:
        try:
            file = self._folder.open_segment(number)
        except FileNotFoundError:
            self._folder.live.discard(number)
            return None
        if len(self._files) >= self._most:
            for oldest in list(self._files)[:1]:
                self.forget(oldest)
        self._files[number] = file
        return file

    def forget(self, number: int) -> None:
        """Closes one; whoever reads it still may go on."""
        self._files.pop(number, None)

    def retain(self, live: Collection[int]) -> None:
        """Closes all but ``live``."""
        for number in list(self._files):
            if number not in live:
                self.forget(number)

    def clear(self) -> None:
        """Closes all."""
        self._files.clear()


class Verified:
    """Where blocks lay whose bytes were found right."""

    def __init__(self) -> None:
        self._places: dict[bytes, Place] = {}

    def __repr__(self) -> str:
        return f"Verified({len(self._places)} blocks)"

    def __contains__(self, block: tuple[bytes, Place]) -> bool:
        digest, place = block
        return self._places.get(digest) == place

    def add(self, digest: bytes, place: Place) -> None:
        """The block of that digest is right at ``place``."""
        if len(self._places) >= VERIFIED_BLOCKS:
            self._places.clear()
        self._places[digest] = place

    def clear(self) -> None:
        """Forgets all."""
        self._places.clear()
