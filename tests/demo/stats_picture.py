"""Draws docs/images/stats.svg: the live view of a real mount while a program reads from it.

    python -m tests.demo.stats_picture [docs/images/stats.svg]

A directory stands for the bucket, ``ossmount mount`` and the counters are the real ones.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from ossmount import app
from ossmount.cli.live_view import WIDTH, Interval, Sample, view

FILES = 3000
LENGTH = 60_000
SHOWN_AS = "/mnt/train"
INTERVAL = 1.0


def main(picture: str = "docs/images/stats.svg") -> None:
    """Mounts, reads for a while, draws, unmounts."""
    with tempfile.TemporaryDirectory() as folder, mounted(Path(folder)) as mountpoint:
        reader = subprocess.Popen([sys.executable, "-c", READER, str(mountpoint)])
        try:
            drawing = render(str(mountpoint))
        finally:
            reader.terminate()
            reader.wait(10)
    Path(picture).write_text(drawing, encoding="utf-8")
    print(f"{picture}: {len(drawing)} bytes")


READER = """
import os, random, sys
paths = [os.path.join(d, n) for d, _, names in os.walk(sys.argv[1]) for n in names]
random.Random(1).shuffle(paths)
for path in paths:
    with open(path, 'rb') as file:
        sum(file.read()[::8])
"""
"""A program that reads everything once, shuffled, and does a little with it."""


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A mount of ``FILES`` files in classes, ended with the block."""
    source, mountpoint = folder / "train", folder / "mnt"
    mountpoint.mkdir()
    dice = random.Random(7)
    for number in range(FILES):
        path = source / f"class_{number % 10:02}" / f"image_{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(LENGTH))
    os.environ["OSSMOUNT_RUNTIME_DIR"] = str(folder / "run")
    command = [sys.executable, "-m", "ossmount"]
    options = ["--cache-dir", str(folder / "cache"), "--max-requests", "4"]
    subprocess.run(
        [*command, "mount", *options, f"file://{source}/", str(mountpoint)], check=True, timeout=60
    )
    try:
        yield mountpoint
    finally:
        subprocess.run([*command, "umount", "--lazy", str(mountpoint)], check=True, timeout=60)


def render(mountpoint: str) -> str:
    """The view of one second, as SVG."""
    deadline = time.monotonic() + 30
    while not app.read_statistics(mountpoint).get("fs", {}).get("opens"):
        if time.monotonic() > deadline:
            raise TimeoutError("nobody reads")
        time.sleep(0.05)
    before = Sample(time.monotonic(), app.read_statistics(mountpoint))
    time.sleep(INTERVAL)
    now = Sample(time.monotonic(), app.read_statistics(mountpoint))
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    console.print(view(Interval(before, now), SHOWN_AS))
    return console.export_svg(title="ossmount stats --watch", unique_id="ossmount-stats")


if __name__ == "__main__":
    main(*sys.argv[1:])
