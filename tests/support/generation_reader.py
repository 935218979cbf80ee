"""A reader of a mount whose generations change: every file is wholly of one, and never goes back.

    python -m tests.support.generation_reader MOUNTPOINT SEED

Reads paths (one a line on standard input) in random order, and lists directories, until SIGTERM; then prints
JSON: reads, and what was wrong. Touch it when a reader may notice something else.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PAGE = 4096


def content(path: str, version: int, size: int) -> bytes:
    """``size`` bytes that tell path and version all along."""
    line = f"{path} is of version {version}.\n".encode()
    return (line * (size // len(line) + 1))[:size]


def version_of(path: str, data: bytes) -> int | None:
    """The version of which all of ``data`` is; None for a mixture, or another file's bytes."""
    for version in (1, 2, 3):
        if data == content(path, version, len(data)):
            return version
    return None


class Reader:
    """Reads and judges."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root, self._random = root, random.Random(seed)
        self._last: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def report(self) -> dict[str, Any]:
        """What :func:`main` prints."""
        return {"counts": dict(self.counts), "wrong": self.wrong[:10]}

    def read(self, path: str) -> None:
        """Opens, reads in pieces, compares."""
        try:
            with (self._root / path).open("rb", buffering=0) as file:
                pieces = iter(lambda: file.read(PAGE), b"")
                data = b"".join(pieces)
        except OSError as error:
            self._note(f"{path}: {error}")
            return
        version = version_of(path, data) if data else None
        if version is None:
            self._note(f"{path}: {len(data)} bytes of no version: {data[:60]!r}")
        elif version < self._last.get(path, 0):
            self._note(f"{path}: version {version} after {self._last[path]}")
        else:
            self.counts[f"version {version}"] += 1
            self._last[path] = version

    def list(self, directory: str, expected: set[str]) -> None:
        """Lists; files that are in every generation must be there, and no name twice."""
        try:
            names = os.listdir(self._root / directory)  # noqa: PTH208 - a plain program's way
        except OSError as error:
            self._note(f"{directory}: {error}")
            return
        self.counts["listings"] += 1
        if len(set(names)) != len(names) or not expected <= set(names):
            self._note(f"{directory}: {len(names)} names, missing {sorted(expected - set(names))[:3]}")

    def _note(self, line: str) -> None:
        self.counts["wrong"] += 1
        self.wrong.append(line)

    def read_for_ever(self, paths: list[str]) -> None:
        """One shuffled pass after the other, with a listing now and then."""
        folders: dict[str, set[str]] = {}
        for path in paths:
            folder, _, name = path.rpartition("/")
            folders.setdefault(folder, set()).add(name)
        while True:
            self._random.shuffle(paths)
            for number, path in enumerate(paths):
                self.read(path)
                if number % 50 == 0:
                    folder = self._random.choice(list(folders))
                    self.list(folder, folders[folder])


class Stopped(Exception):
    """SIGTERM came."""


def stop(signum: int, frame: object) -> None:
    """Signal handler."""
    raise Stopped


def main() -> None:
    """Reads until SIGTERM, then reports."""
    reader = Reader(Path(sys.argv[1]), int(sys.argv[2]))
    paths = sys.stdin.read().splitlines()
    signal.signal(signal.SIGTERM, stop)
    try:
        reader.read_for_ever(paths)
    except Stopped:
        sys.stdout.write(json.dumps(reader.report()))


if __name__ == "__main__":
    main()
