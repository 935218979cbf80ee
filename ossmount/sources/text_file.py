"""A list or manifest as bytes, wherever it stands: local, standard input, or an object; gzip or plain.

What may live here: getting at the bytes, and nothing about what they mean. Who may touch it: whoever
adds a place or a compression.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from ossmount.errors import ObjectMissing, SettingsError, SourceError, StoreError
from ossmount.model import ObjectId
from ossmount.protocols import OpenStore
from ossmount.uris import FILE_ROOT, is_uri, parse_uri, shown_uri

STANDARD_INPUT = "-"
KEPT_INPUT_DIGEST_BYTES = 12
KEPT_INPUT = "stdin-"
"""How the name of a file begins that keeps what standard input or a pipe brought; its digest follows."""

_KEPT_INPUT_NAME = re.compile(KEPT_INPUT + f"[0-9a-f]{{{2 * KEPT_INPUT_DIGEST_BYTES}}}")
_GZIP_MAGIC = b"\x1f\x8b"
_PART = 8 << 20
"""Bytes per GET of a remote manifest: large enough for one connection's speed, small enough for memory."""


def is_standard_input(place: str) -> bool:
    """Whether it is, or was before it was kept; what it brought cannot be had again."""
    return place == STANDARD_INPUT or _KEPT_INPUT_NAME.fullmatch(Path(place).name) is not None


class TextFile:
    """A text that may be read several times. ``place`` is a path, ``-`` or a URI, as messages show it.

    What is not a local file is copied once to a nameless temporary file, which disappears with the
    process however it ends. Compression is told by the content, not by the name.
    """

    def __init__(self, place: str, open_store: OpenStore) -> None:
        self.place = "standard input" if is_standard_input(place) else shown_uri(place)
        self._source = place
        self._open_store = open_store
        self._copy: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"TextFile({self.place!r})"

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The decompressed bytes from the beginning. Raises SourceError, also for errors while reading.

        SettingsError for a local file where ``open_store`` opens none.
        """
        try:
            with self._raw() as raw:
                compressed = raw.peek(2)[:2] == _GZIP_MAGIC
                yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if compressed else cast(BinaryIO, raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SourceError(
                f"{self.place}: damaged gzip data: {error}", "compress or copy it again"
            ) from error
        except OSError as error:
            raise _unreadable(self.place, error) from error

    def _raw(self) -> io.BufferedReader:
        if self._copy is None and self._source != STANDARD_INPUT and not is_uri(self._source):
            if not is_standard_input(self._source):
                self._ask_for_local()
            return Path(self._source).open("rb")
        if self._copy is None:
            self._copy = self._fetch()
        # Opened anew, so that each reader has its own position; the name is the kernel's, not a file's.
        return Path(f"/proc/self/fd/{self._copy.fileno()}").open("rb")

    def _ask_for_local(self) -> None:
        """Who may open no local file by its URI opens none by its path. Raises SettingsError."""
        try:
            self._open_store(FILE_ROOT)
        except SettingsError as error:
            raise SettingsError(
                f"{self.place} may not be opened here (--no-local-files)", "name an object of a bucket"
            ) from error

    def _fetch(self) -> IO[bytes]:
        copy = tempfile.TemporaryFile(prefix="ossmount-")  # noqa: SIM115 - lives as long as this object
        if self._source == STANDARD_INPUT:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            self._download(copy)
        copy.flush()
        return copy

    def _download(self, copy: IO[bytes]) -> None:
        root, key = parse_uri(self._source)
        try:
            store = self._open_store(root)
            info = store.head(key)
            target = ObjectId(root, key, info.etag, info.size)
            for start in range(0, info.size, _PART):
                copy.write(store.get_range(target, start, min(_PART, info.size - start)))
        except ObjectMissing as error:
            raise SourceError(f"{self.place} does not exist", "check the URI of the manifest") from error
        except StoreError as error:
            raise SourceError(f"{self.place} cannot be read: {error.message}", error.remedy) from error


def _unreadable(place: str, error: OSError) -> SourceError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return SourceError(f"{place} cannot be read: {reason}", "check the path and its permissions")
