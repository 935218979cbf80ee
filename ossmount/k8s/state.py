"""What the plugin remembers, so that one that starts anew finds its volumes: a folder for each target.

``STATE/<digest of target>/record.json`` (version 1, 0600 in 0700) is written before the first step of a
publish and removed after the last of an unpublish, each time beside and renamed: whatever step the plugin
is killed in, the record says what may have to be undone. No secrets stand in it.

What may live here: records on disk. Who may touch it: whoever changes what is remembered; raise FORMAT then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from ossmount.app.runtime import write_json
from ossmount.k8s.attributes import Serve
from ossmount.k8s.processes import Identity

FORMAT = 1


class Phase(StrEnum):
    """How far a publish has come."""

    PUBLISHING = "publishing"
    """Begun, not confirmed: whoever finds it without a call in progress undoes it."""
    OFFERED = "offered"
    """Mounted, and the descriptor waits for the sidecar."""
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Record:
    """One published target. ``arguments`` is a digest of all arguments of the call but secrets."""

    volume_id: str
    target: str
    arguments: str
    mode: str
    """Access mode by its name in the specification."""
    serve: Serve = Serve.NODE
    sources: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    tenant: str = ""
    phase: Phase = Phase.PUBLISHING
    process: Identity | None = None
    """The mount's supervisor, where the plugin itself started it."""
    connection: int = 0
    """Number of the FUSE connection, where the plugin itself mounted (sidecar)."""
    format: int = FORMAT


def digest(target: str) -> str:
    """The name under which a target is kept."""
    return hashlib.blake2b(os.fsencode(target), digest_size=12).hexdigest()


class State:
    """The records below one directory. Thread-safe as long as one thread at a time works on a target."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory

    def __repr__(self) -> str:
        return f"<State {self._directory} {sum(1 for _ in self.records())} records>"

    def write(self, record: Record) -> Record:
        """Remembers ``record``. Raises OSError (full disk)."""
        folder = self._directory / digest(record.target)
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            write_json(folder / "record.json", asdict(record))
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()  # nothing was remembered: leave no empty folder
            raise
        return record

    def read(self, target: str) -> Record | None:
        """The record of ``target``; None where there is none, or none that this version can read."""
        return _read(self._directory / digest(target))

    def remove(self, target: str) -> None:
        """Forgets ``target``."""
        shutil.rmtree(self._directory / digest(target), ignore_errors=True)

    def records(self) -> Iterator[Record]:
        """All records."""
        for folder in sorted(self._directory.iterdir()):
            record = _read(folder)
            if record is not None:
                yield record


def _read(folder: Path) -> Record | None:
    try:
        fields = json.loads((folder / "record.json").read_bytes())
        if fields.get("format") != FORMAT:
            return None
        process = fields.pop("process")
        return Record(
            **fields
            | {
                "process": Identity(**process) if process else None,
                "serve": Serve(fields["serve"]),
                "phase": Phase(fields["phase"]),
                "sources": tuple(fields["sources"]),
            }
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
