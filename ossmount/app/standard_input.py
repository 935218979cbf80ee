"""A list from standard input or a pipe, kept as a file while its index is chosen or built.

Both can be read only once, and a list is read several times: for its form, its rows, and where a fault
is. The file is named by its content: the index of an earlier list must not be taken for another one, and
the content's digest, as the file's name, becomes part of what a kept index is kept under. It lies in a
directory of its own: who reads the same list at the same time has another copy, and removes only that.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from ossmount.config import Settings, SourceSettings
from ossmount.errors import IndexFileError
from ossmount.places import is_pipe
from ossmount.sources import KEPT_INPUT, KEPT_INPUT_DIGEST_BYTES, STANDARD_INPUT

_CHUNK = 1 << 20


@contextlib.contextmanager
def standard_input_as_file(settings: Settings, directory: Path, mode: int = 0o777) -> Iterator[Settings]:
    """The settings with ``-``, or a pipe's name, replaced by a file below ``directory``.

    A pipe's name is what a shell makes of ``<(…)``. The file goes when the block ends; a directory that is
    missing is made with ``mode``. Raises IndexFileError where the list cannot be kept there.
    """
    listed = settings.source.manifest or settings.source.objects
    if listed is None or not (listed == STANDARD_INPUT or is_pipe(listed)):
        yield settings
        return
    with contextlib.ExitStack() as stack:
        try:
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
            own = TemporaryDirectory(prefix=f".{KEPT_INPUT}", dir=directory, ignore_cleanup_errors=True)
            copy = _copied(listed, Path(stack.enter_context(own)))
        except OSError as error:
            raise IndexFileError(
                f"cannot keep the list from {listed} in {directory}: {error.strerror}",
                "check space and permissions",
            ) from error
        yield replace(settings, source=_with_file(settings.source, str(copy)))


def _with_file(source: SourceSettings, name: str) -> SourceSettings:
    if source.manifest is not None:
        return replace(source, manifest=name)
    return replace(source, objects=name)


def _opened(listed: str) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(sys.stdin.buffer) if listed == STANDARD_INPUT else Path(listed).open("rb")


def _copied(listed: str, directory: Path) -> Path:
    digest = hashlib.blake2b(digest_size=KEPT_INPUT_DIGEST_BYTES)
    unnamed = directory / "copy"
    with _opened(listed) as stream, unnamed.open("wb") as copy:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    return unnamed.rename(directory / f"{KEPT_INPUT}{digest.hexdigest()}")
