"""Programs that read without PyTorch: prints a JSON line for each pass.

    python readers.py sequential FILE
    python readers.py random FILE [--threads 32] [--seconds 5]
    python readers.py files DIRECTORY [--processes 8] [--passes 2]
    python readers.py parts URL            the native engine alone: 8 MiB ranges from 32 threads

Each says ``gate`` and waits for a line on standard input before each pass.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
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


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("sequential", "random", "files", "parts"))
    parser.add_argument("target")
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    programs: dict[str, Callable[[], None]] = {
        "sequential": lambda: sequential(options.target),
        "random": lambda: random_reads(options.target, options.threads, options.seconds),
        "files": lambda: files(options.target, options.processes, options.passes),
        "parts": lambda: parts(options.target),
    }
    sys.path.insert(0, str(Path(__file__).parents[2]))
    programs[options.what]()


if __name__ == "__main__":
    main()
