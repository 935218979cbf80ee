"""Where a mount appears: a directory, or a descriptor that somebody else mounted already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory to mount on."""

    path: Path


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An inherited ``/dev/fuse`` descriptor that is mounted already; whoever mounted it unmounts it."""

    fd: int


Mountpoint = Directory | Descriptor
