"""Programs that read without PyTorch: prints a JSON line for each pass.

    python readers.py sequential FILE
    python readers.py random FILE [--threads 32] [--seconds 5]
    python readers.py files DIRECTORY [--processes 8] [--passes 2]
    python readers.py parts URL            the native engine alone: 8 MiB ranges from 32 threads
    python readers.py steady DIRECTORY --versions OLD NEW [--cached 1] [--seed 1]

Each says ``gate`` and waits for a line on standard input before each pass; ``steady`` reads until a second
line, and says what was wrong.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import select
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SEQUENTIAL_BLOCK = 1 << 20
RANDOM_BLOCK = 128 << 10
PART = 8 << 20
PART_THREADS = 32


def say(**fields: Any) -> None:
    """One JSON line on standard output."""
    print(json.dumps(fields), flush=True)


def gate() -> None:
    """Waits until whoever measures is ready."""
    say(case="gate")
    sys.stdin.readline()


def sequential(path: str) -> None:
    """One file from its first to its last byte."""
    buffer = bytearray(SEQUENTIAL_BLOCK)
    gate()
    total, started = 0, time.perf_counter()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - readinto of the raw file
        while count := file.readinto(buffer):
            total += count
    say(case="sequential", bytes=total, seconds=time.perf_counter() - started)


def random_reads(path: str, threads: int, seconds: float) -> None:
    """Blocks of 128 KiB, each at most once, from ``threads`` threads with one descriptor each."""
    gate()
    # Opening counts: it is what a program does. The slots are the same for every contestant.
    started = time.perf_counter()
    slots = list(range(os.stat(path).st_size // RANDOM_BLOCK))  # noqa: PTH116
    random.Random(7).shuffle(slots)
    deadline, done, lock = started + seconds, [0], threading.Lock()

    def run() -> None:
        fd = os.open(path, os.O_RDONLY)
        count = 0
        while time.perf_counter() < deadline:
            with lock:
                slot = slots.pop() if slots else None
            if slot is None or len(os.pread(fd, RANDOM_BLOCK, slot * RANDOM_BLOCK)) != RANDOM_BLOCK:
                break
            count += 1
        os.close(fd)
        with lock:
            done[0] += count

    readers = [threading.Thread(target=run) for _ in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    say(case="random", reads=done[0], seconds=time.perf_counter() - started)


def _read_share(paths: list[str]) -> int:
    total = 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        while data := os.read(fd, 1 << 20):
            total += len(data)
        os.close(fd)
    return total


def files(directory: str, processes: int, passes: int) -> None:
    """Every file of a tree once per pass, shuffled, from ``processes`` processes."""
    paths = [os.path.join(top, name) for top, _, names in os.walk(directory) for name in names]  # noqa: PTH118
    random.Random(7).shuffle(paths)
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for _ in range(passes):
            gate()
            started = time.perf_counter()
            total = sum(pool.map(_read_share, [paths[i::processes] for i in range(processes)], 1))
            say(case="files", files=len(paths), bytes=total, seconds=time.perf_counter() - started)


def parts(url: str) -> None:
    """One object in parallel ranges with the native engine, whose bytes nobody looks at."""
    import obstore
    from obstore.store import S3Store

    split = urlsplit(url)
    bucket, _, key = split.path.strip("/").partition("/")
    store = S3Store(
        bucket,
        endpoint=f"{split.scheme}://{split.netloc}",
        region="us-east-1",
        skip_signature=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    size = obstore.head(store, key)["size"]
    gate()
    started = time.perf_counter()
    with ThreadPoolExecutor(PART_THREADS) as pool:
        total = sum(
            pool.map(
                lambda start: len(obstore.get_range(store, key, start=start, end=min(start + PART, size))),
                range(0, size, PART),
            )
        )
    say(case="sequential", bytes=total, seconds=time.perf_counter() - started)


def steady(directory: str, versions: list[str], cached: int, seed: int) -> None:
    """Files of a tree ``<part>/<path>`` at random; each must wholly be ``<version>/<path>``, and stay new.

    Files that change are read only in the first ``cached`` parts, whose bytes the machine has: of others the
    old generation's bytes are gone, which a mount may say until it is refreshed.
    """
    source, latest = random.Random(seed), dict[tuple[str, str], int]()
    parts_there = sorted(os.listdir(directory))  # noqa: PTH208 - a plain program's way
    names = sorted(str(path.relative_to(versions[0])) for path in Path(versions[0]).rglob("*.jpg"))
    right = {name: [(Path(version) / name).read_bytes() for version in versions] for name in names}
    stays = [name for name in names if right[name][0] == right[name][-1]]
    changes = sorted(set(names) - set(stays))
    gate()
    count, wrong = 0, list[str]()
    while not count or not select.select([sys.stdin], [], [], 0)[0]:
        near = source.random() < 0.5
        part = source.choice(parts_there[:cached] if near else parts_there)
        name = source.choice(changes if near and source.random() < 0.1 else names if near else stays)
        try:
            data = Path(directory, part, name).read_bytes()
            version = right[name].index(data) if data in right[name] else -1
        except OSError as error:
            version, data = -1, str(error).encode()
        if version < latest.get((part, name), 0):
            wrong.append(f"{part}/{name}: version {version}, {len(data)} bytes, {data[:60]!r}")
        latest[part, name] = max(version, 0)
        count += 1
        if count == 1:
            say(case="steady")
    newer = sum(version > 0 for version in latest.values())
    say(case="steady", files=count, newer=newer, wrong=wrong)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("sequential", "random", "files", "parts", "steady"))
    parser.add_argument("target")
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--versions", nargs="+", default=[])
    parser.add_argument("--cached", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    programs: dict[str, Callable[[], None]] = {
        "sequential": lambda: sequential(options.target),
        "random": lambda: random_reads(options.target, options.threads, options.seconds),
        "files": lambda: files(options.target, options.processes, options.passes),
        "parts": lambda: parts(options.target),
        "steady": lambda: steady(options.target, options.versions, options.cached, options.seed),
    }
    sys.path.insert(0, str(Path(__file__).parents[2]))
    programs[options.what]()


if __name__ == "__main__":
    main()
