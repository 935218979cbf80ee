"""A reader of the soak: reads every file of a directory in random order for ever and checks its content.

    python reader.py DIRECTORY SEED

The file ``<name>`` holds what :func:`content` makes of its name. Prints a JSON line at SIGTERM: files read,
wrong ones, errors by errno. It never stops at an error: how often which one comes is what is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path


def content(name: str, size: int) -> bytes:
    """``size`` bytes that follow from ``name`` alone."""
    return hashlib.shake_128(name.encode()).digest(size)


class Stopped(Exception):
    """SIGTERM came."""


def stop(signum: int, frame: object) -> None:
    """Signal handler."""
    raise Stopped


def read_for_ever(directory: Path, seed: int, counts: Counter[str]) -> None:
    """One shuffled pass after the other."""
    order = random.Random(seed)
    names = sorted(os.listdir(directory))  # noqa: PTH208 - a plain program's way
    while True:
        order.shuffle(names)
        for name in names:
            check(directory / name, counts)


def check(path: Path, counts: Counter[str]) -> None:
    """Reads one file past the page cache's knowledge of it, every other time."""
    try:
        with path.open("rb") as file:
            data = file.read()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        counts[f"errno_{error.errno}"] += 1
        return
    counts["files"] += 1
    if data != content(path.name, len(data)) or not data:
        counts["wrong"] += 1


def main() -> None:
    """Reads until SIGTERM, then reports."""
    counts: Counter[str] = Counter()
    try:
        signal.signal(signal.SIGTERM, stop)
        read_for_ever(Path(sys.argv[1]), int(sys.argv[2]), counts)
    except Stopped:
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
