"""A list from standard input, kept as a file named by its content while its index is chosen or built.

The index of an earlier list must not be taken for another one: the content's digest, as part of the
name, becomes part of what a kept index is kept under.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from ossmount.config import Settings, SourceSettings

_CHUNK = 1 << 20


@contextlib.contextmanager
def standard_input_as_file(settings: Settings, directory: Path) -> Iterator[Settings]:
    """The settings with ``-`` replaced by a file below ``directory``, which goes when the block ends."""
    if "-" not in {settings.source.manifest, settings.source.objects}:
        yield settings
        return
    copy = _copy_standard_input(directory)
    try:
        yield replace(settings, source=_with_file(settings.source, str(copy)))
    finally:
        copy.unlink(missing_ok=True)


def _with_file(source: SourceSettings, name: str) -> SourceSettings:
    if source.manifest == "-":
        return replace(source, manifest=name)
    return replace(source, objects=name)


def _copy_standard_input(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.blake2b(digest_size=12)
    with NamedTemporaryFile(dir=directory, prefix=".stdin-", delete=False) as copy:
        beside = Path(copy.name)
        try:
            while chunk := sys.stdin.buffer.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
        except BaseException:
            beside.unlink()
            raise
    named = directory / f"stdin-{digest.hexdigest()}"
    beside.replace(named)
    return named
