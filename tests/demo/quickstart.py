"""``make demo``: everything that the README promises, in one minute and on one machine.

Makes a small labelled image set, serves it from a real S3 server with signatures checked, mounts it with
the command that users type, trains on it for two epochs with :mod:`tests.demo.train`, and says what each
epoch asked of the store. Cleans up whatever happens.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from tests.servers.s3 import S3Server, juicefs_gateway
from tests.support.counters import rested

ROOT = Path(__file__).parents[2]
BUCKET = "demo"
CLASSES = ("circle", "cross", "dot", "frame", "line", "pie", "ring", "square", "star", "triangle")
IMAGES_PER_CLASS = 60
PIXELS = 160
TRAINING_LIMIT = 300.0

Fields = dict[str, Any]


def say(text: str) -> None:
    print(text, flush=True)


def draw(shape: str, seed: str) -> bytes:
    """A JPEG of ``shape`` in some colour and place on noise, the same for the same seed."""
    dice = random.Random(seed)
    picture = Image.effect_noise((PIXELS, PIXELS), dice.uniform(20, 60)).convert("RGB")
    pen = ImageDraw.Draw(picture)
    x, y, r = dice.randint(50, 110), dice.randint(50, 110), dice.randint(20, 45)
    _SHAPES[shape](pen, (x - r, y - r, x + r, y + r), (dice.randint(0, 255), dice.randint(0, 255), 40))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()


Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]


def _lines(pen: ImageDraw.ImageDraw, points: list[tuple[int, int]], colour: Colour) -> None:
    pen.line(points, colour, width=6)


_SHAPES: Mapping[str, Callable[[ImageDraw.ImageDraw, Box, Colour], None]] = {
    "circle": lambda pen, b, c: pen.ellipse(b, fill=c),
    "cross": lambda pen, b, c: (
        _lines(pen, [(b[0], b[1]), (b[2], b[3])], c),
        _lines(pen, [(b[0], b[3]), (b[2], b[1])], c),
    )[0],
    "dot": lambda pen, b, c: pen.ellipse((b[0], b[1], b[0] + 12, b[1] + 12), fill=c),
    "frame": lambda pen, b, c: pen.rectangle(b, outline=c, width=6),
    "line": lambda pen, b, c: _lines(pen, [(b[0], b[1]), (b[2], b[3])], c),
    "pie": lambda pen, b, c: pen.pieslice(b, 20, 290, fill=c),
    "ring": lambda pen, b, c: pen.ellipse(b, outline=c, width=6),
    "square": lambda pen, b, c: pen.rectangle(b, fill=c),
    "star": lambda pen, b, c: pen.regular_polygon(((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, 30), 5, fill=c),
    "triangle": lambda pen, b, c: pen.polygon([(b[0], b[3]), (b[2], b[3]), (b[0], b[1])], fill=c),
}


def upload(server: S3Server) -> int:
    """Puts the image set below ``s3://demo/train/``; returns how many bytes."""
    client = server.client()
    client.create_bucket(Bucket=BUCKET)

    def put(job: tuple[str, int]) -> int:
        shape, number = job
        body = draw(shape, f"{shape}-{number}")
        client.put_object(Bucket=BUCKET, Key=f"train/{shape}/{number:04}.jpg", Body=body)
        return len(body)

    jobs = [(shape, number) for shape in CLASSES for number in range(IMAGES_PER_CLASS)]
    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(put, jobs))


def ossmount(*words: str, environment: Mapping[str, str], capture: bool = False) -> str:
    """Runs the command as a user would; returns what it printed where ``capture``. Raises SystemExit."""
    done = subprocess.run(
        [sys.executable, "-m", "ossmount", *words],
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else None,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"demo: 'ossmount {' '.join(words)}' ended with status {done.returncode}")
    return done.stdout or ""


@contextlib.contextmanager
def mounted(server: S3Server, mountpoint: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """The demo's bucket at ``mountpoint``; nothing stays mounted there at the end, whatever happens."""
    words = ["mount", "--endpoint-url", server.endpoint_url, "--addressing-style", "path"]
    words += [f"s3://{BUCKET}/train/", str(mountpoint)]
    say(f"$ ossmount {' '.join(words)}")
    try:
        ossmount(*words, environment=environment)
        yield
        say(f"$ ossmount umount {mountpoint}")
        ossmount("umount", str(mountpoint), environment=environment)
    finally:
        if f" {mountpoint} " in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["fusermount3", "-uz", str(mountpoint)], check=False, capture_output=True)


def statistics(mountpoint: Path, environment: Mapping[str, str]) -> Fields:
    """The counters of the mount, once they have settled."""

    def published() -> Fields:
        said = ossmount("stats", "--json", str(mountpoint), environment=environment, capture=True)
        return dict(json.loads(said))

    return rested(published)


def counted(counters: Fields, room: str, *names: str) -> int:
    """The sum of counters; a name that the mount does not know is an error, not a zero."""
    known = counters[room]
    if room == "store" and not known:
        return 0  # no process has opened the store yet
    try:
        return sum(int(known[name]) for name in names)
    except KeyError as error:
        raise SystemExit(f"demo: the mount has no counter {room}.{error.args[0]}: {counters}") from error


def summary(counters: Fields) -> dict[str, int]:
    """What a reader of the demo wants to know. What the kernel has in its page cache nobody is asked."""
    return {
        "GET requests": counted(counters, "store", "get_requests"),
        "LIST and HEAD requests": counted(counters, "store", "list_requests", "head_requests"),
        "bytes fetched": counted(counters, "store", "get_bytes"),
        "cache hits": counted(counters, "fetcher", "memory_hits", "cache_hits"),
        "reads that reached the mount": counted(counters, "fetcher", "reads"),
    }


def describe(epoch: Mapping[str, int]) -> str:
    """One line. An image that no read reached the mount for came out of the kernel's page cache."""
    kernel = max(0, len(CLASSES) * IMAGES_PER_CLASS - epoch["reads that reached the mount"])
    counts = [f"{n:,} {name}" for name, n in epoch.items() if not name.startswith("reads")]
    return ", ".join([*counts, f"{kernel:,} images from the kernel's page cache"])


@dataclass(frozen=True, slots=True)
class Run:
    """What the training program printed, and what each of its epochs asked of the mount."""

    lines: list[str]
    epochs: list[dict[str, int]]

    def check(self) -> None:
        """Raises SystemExit unless the demo has shown what it is to show."""
        if f"{len(CLASSES)} classes" not in self.lines[0]:
            raise SystemExit(f"demo: expected {len(CLASSES)} classes, got: {self.lines[0]}")
        if asked := {name: n for name, n in self.epochs[-1].items() if "requests" in name and n}:
            raise SystemExit(f"demo: the last epoch should have asked nothing of the store: {asked}")


def train(mountpoint: Path, environment: Mapping[str, str]) -> Run:
    """Runs the training program; after each of its epochs says what the mount did."""
    script = str(ROOT / "tests/demo/train.py")
    say(f"$ python train.py {mountpoint}")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.torchvision_ops", script, str(mountpoint), "--step"],
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            run = _follow(process, mountpoint, environment)
            status = process.wait(TRAINING_LIMIT)
        except BaseException:
            process.kill()
            raise
    if status != 0:
        raise SystemExit(f"demo: the training program ended with status {status}")
    return run


def _follow(process: subprocess.Popen[str], mountpoint: Path, environment: Mapping[str, str]) -> Run:
    assert process.stdin is not None
    assert process.stdout is not None
    before = summary(statistics(mountpoint, environment))
    run = Run([], [])
    for line in process.stdout:
        run.lines.append(line.rstrip())
        say(f"  {run.lines[-1]}")
        if line.startswith("epoch"):
            after = summary(statistics(mountpoint, environment))
            run.epochs.append({name: after[name] - before[name] for name in after})
            say(f"           {describe(run.epochs[-1])}")
            before = after
            process.stdin.write("\n")
            process.stdin.flush()
    return run


def main() -> int:
    """Returns 0 when all of it worked."""
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ossmount-demo-")))
        server = stack.enter_context(juicefs_gateway())
        say(f"a local S3 server with signatures checked: {server.endpoint_url}")
        size = upload(server)
        say(f"{len(CLASSES) * IMAGES_PER_CLASS} images, {size / 2**20:.1f} MiB, at s3://{BUCKET}/train/")
        mountpoint = home / "train"
        mountpoint.mkdir()
        environment = {**os.environ, **server.environment(), "OSSMOUNT_CACHE_DIR": str(home / "cache")}
        stack.enter_context(mounted(server, mountpoint, environment))
        train(mountpoint, environment).check()
    say(f"done in {time.monotonic() - started:.0f} s; the second epoch asked nothing of the store")
    return 0


if __name__ == "__main__":
    sys.exit(main())
