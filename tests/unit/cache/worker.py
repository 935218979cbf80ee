"""A process that reads and writes one cache until it is told to stop or is killed. Run with ``python -m``.

Arguments: directory, capacity, seed, rounds. Prints the counters as ``wrong hits stored failures bad``.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from ossmount.cache.disk import DiskCache
from tests.unit.cache.blocks import block, content

KEYS = 200
SIZES = (10, 5_000, 70_000, 200_000)


def size_of(key: str) -> int:
    return SIZES[sum(key.encode()) % len(SIZES)]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    directory, capacity, seed, rounds = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    rng = random.Random(seed)
    cache = DiskCache(directory, capacity)
    say("ready")
    wrong = 0
    for _ in range(rounds):
        key = f"k{rng.randrange(KEYS)}"
        made, data = block(key, size_of(key)), content(key, size_of(key))
        got = cache.get(made)
        wrong += got is not None and got != data
        part = cache.get_range(made, 3, 100)
        wrong += part is not None and part != data[3:103]
        if got is None:
            cache.put(made, data)
    counts = cache.statistics()
    cache.close()
    say(f"{wrong} {counts.hits} {counts.stored} {counts.failures} {counts.bad_blocks}")


if __name__ == "__main__":
    main()
