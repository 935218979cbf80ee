"""A reader of the soak: reads every file of a directory in random order for ever and checks its content.

    python reader.py DIRECTORY SEED [--keep]

It drops each file from the page cache after reading it; with ``--keep`` only from SIGUSR1 on.
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
import threading
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


def read_for_ever(directory: Path, seed: int, counts: Counter[str], drops: threading.Event) -> None:
    """One shuffled pass after the other."""
    order = random.Random(seed)
    names = sorted(os.listdir(directory))  # noqa: PTH208 - a plain program's way
    while True:
        order.shuffle(names)
        for name in names:
            check(directory / name, counts, drop=drops.is_set())


def check(path: Path, counts: Counter[str], *, drop: bool) -> None:
    """Reads one file; ``drop``: its pages go, so that the mount is asked for it next time."""
    try:
        with path.open("rb") as file:
            data = file.read()
            if drop:
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
    drops = threading.Event()
    if "--keep" not in sys.argv:
        drops.set()
    try:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGUSR1, lambda signum, frame: drops.set())
        read_for_ever(Path(sys.argv[1]), int(sys.argv[2]), counts, drops)
    except Stopped:
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
