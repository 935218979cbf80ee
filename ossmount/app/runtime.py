"""The runtime directory of a mount: who serves it, since when, and its children's statistics.

Lives in ``$XDG_RUNTIME_DIR/ossmount`` (root: ``/run/ossmount``), one directory (0700) for each mount,
named by a digest of the mountpoint. Written by the supervisor (``mount.json``) and by each child
(``stats/<kind>-<pid>.json``, see :mod:`ossmount.app.statistics`). Format version 1, see docs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ossmount.errors import RuntimeUnusable
from ossmount.places import is_file, replacing

RUNTIME_FORMAT = 1

REFRESH_NAME = "refresh.json"


def runtime_root() -> Path:
    """Where the runtime directories of this user's mounts live."""
    if given := os.environ.get("OSSMOUNT_RUNTIME_DIR"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/run/ossmount")
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(base) / "ossmount"
    return Path(tempfile.gettempdir()) / f"ossmount-{os.geteuid()}"


def runtime_directory(mountpoint: str) -> Path:
    """The runtime directory that belongs to ``mountpoint`` (an absolute path)."""
    digest = hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest()
    return runtime_root() / digest


@dataclass(frozen=True, slots=True)
class MountRecord:
    """What a mount says of itself in ``mount.json``. ``started`` in seconds since the epoch."""

    mountpoint: str
    source: str
    index: str
    supervisor: int
    started: float = field(default_factory=time.time)
    generation: int = 0
    served: str = ""
    """Path to the file that is served, whatever stands at ``index`` by now; for the same user."""
    format: int = RUNTIME_FORMAT

    @property
    def file(self) -> Path:
        """The index file that is served; what stands at ``index`` where no supervisor holds that open."""
        return Path(self.served if is_file(self.served) else self.index)

    def write(self) -> Path:
        """Makes the runtime directory anew with this record in it, and returns it. Raises RuntimeUnusable."""
        directory = runtime_directory(self.mountpoint)
        shutil.rmtree(directory, ignore_errors=True)
        try:
            (directory / "stats").mkdir(mode=0o700, parents=True)
            directory.chmod(0o700)
            write_json(directory / "mount.json", asdict(self))
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise RuntimeUnusable(
                f"cannot write the runtime directory {directory}: {error.strerror}",
                "name another with OSSMOUNT_RUNTIME_DIR, or see who owns it and whether its disk is full",
            ) from error
        return directory

    def update(self) -> None:
        """Writes the record anew, beside what else is in the directory. Raises OSError."""
        write_json(runtime_directory(self.mountpoint) / "mount.json", asdict(self))

    def remove(self) -> None:
        """Removes the runtime directory, unless another mount on the same place has it by now."""
        found = read_record(self.mountpoint)
        if found is None or found.supervisor == self.supervisor:
            remove_record(self.mountpoint)


@dataclass(frozen=True, slots=True)
class RefreshState:
    """How far refreshes of a mount are, in ``refresh.json``: attempts begun and ended, the last outcome.

    ``outcome`` has ``refreshed`` (fields of what was found) or ``error`` (``type``, ``message``,
    ``remedy``). Whoever asks for a refresh waits until an attempt has ended that began afterwards.
    """

    started: int = 0
    finished: int = 0
    outcome: Mapping[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether an attempt is under way."""
        return self.started > self.finished

    def begun(self) -> RefreshState:
        """One more attempt."""
        return replace(self, started=self.started + 1)

    def ended(self, outcome: Mapping[str, Any]) -> RefreshState:
        """The attempt is over."""
        return replace(self, finished=self.started, outcome=outcome)

    def write(self, directory: Path) -> None:
        """Publishes the state; a directory that is gone belongs to a mount that ends."""
        with contextlib.suppress(OSError):
            write_json(directory / REFRESH_NAME, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> RefreshState:
        """What was published; nothing yet: no attempt."""
        try:
            return cls(**json.loads((directory / REFRESH_NAME).read_bytes()))
        except (OSError, ValueError, TypeError):
            return cls()


def read_record(mountpoint: str) -> MountRecord | None:
    """The record of ``mountpoint``; None where there is none that this version can read."""
    try:
        fields = json.loads((runtime_directory(mountpoint) / "mount.json").read_bytes())
        return MountRecord(**fields) if fields["format"] == RUNTIME_FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remove_record(mountpoint: str) -> None:
    """Removes the runtime directory of ``mountpoint``."""
    shutil.rmtree(runtime_directory(mountpoint), ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes beside, then renames: a reader sees the old value or the new one. Raises OSError."""
    with replacing(path) as output:
        output.write(json.dumps(value).encode())
