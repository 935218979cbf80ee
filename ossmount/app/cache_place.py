"""Where the cache directory is: kept indexes, parts of pulls and the disk cache lie in it.

What may live here: its place, and that it is there. Who may touch it: whoever changes the default.
"""

from __future__ import annotations

import os
from pathlib import Path

from ossmount.config import CacheSettings
from ossmount.errors import CacheError


def cache_path(settings: CacheSettings) -> Path:
    """Where the cache is or will be, absolute; nothing is made."""
    if settings.cache_dir:
        return Path(settings.cache_dir).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()).absolute() / "ossmount"


def cache_directory(settings: CacheSettings) -> Path:
    """The cache directory, made if it is missing (0700). Raises CacheError."""
    directory = cache_path(settings)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"cannot make the cache directory {directory}: {error.strerror}",
            "name a writable one with --cache-dir",
        ) from error
    return directory
