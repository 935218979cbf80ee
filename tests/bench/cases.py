"""What contestants are asked to do, one class for each kind of case.

A case takes one contestant through one round and reports figures; which contestants take part, how often
and in which order is the run's business (run.py).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.contestants import CONTESTANTS, Contestant, Ossmount, Reached, ReachedOssmount
from tests.bench.ground import IMAGES, LARGE, MILLION, NAMES, OBJECT, Ground, clean_environment
from tests.bench.nginx_store import NginxStore
from tests.bench.processes import Program, drop_caches
from tests.support.counters import PUBLISHED
from tests.support.residency import files_below, locked_in_memory

HERE = Path(__file__).parent
LATENCY = 0.02
START_SECONDS = 60.0
"""For a program to import PyTorch on a busy machine, and for slow contestants to list everything."""
PATIENCE = 90.0
"""Seconds for one pass of anything; whoever needs longer is recorded as too slow."""
CUT = 10.0
"""Seconds after which an epoch of a slow contestant is cut; its rate counts, no later epoch follows."""
SLOW = ("rclone", "s3fs", "S3MapDataset")
"""Waiting for latency most of the time, they neither vary nor come near the others."""

Report = Callable[[str, float, str], None]
"""Takes quantity, value and unit."""


@dataclass
class Case(ABC):
    """A named case and those who take part in it, by name."""

    name: str
    title: str
    contestants: tuple[str, ...]
    most_rounds: int = 100
    """Where a round takes minutes and its figure hardly varies, fewer."""

    def contestant(self, name: str) -> Contestant:
        """Who stands behind a name in this case."""
        return CONTESTANTS[name]

    @abstractmethod
    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """One round of one contestant. Raises TooSlow, Ended."""


@contextmanager
def reached(
    ground: Ground,
    contestant: Contestant,
    bucket: str,
    latency: float,
    rate: int = 0,
    locked: bool = True,
) -> Iterator[tuple[NginxStore, Reached, Path]]:
    """A fresh store, its data ``locked`` in memory if the contestant asks for them, and a fresh mount."""
    with (
        ground.fresh_directory() as scratch,
        ground.store(bucket, latency, rate, locked=locked and contestant.asks_store) as store,
        contestant.reach(ground, store, bucket, scratch) as here,
    ):
        yield store, here, scratch


def training(here: Reached, *options: str) -> Program:
    """The training program on what was reached."""
    command = [sys.executable, str(HERE / "epochs.py"), here.source, "--gate", *here.options, *options]
    return Program(command, clean_environment())


def reader(*arguments: str) -> Program:
    """One of the plain readers."""
    return Program([sys.executable, str(HERE / "readers.py"), *arguments], clean_environment())


def constructed(program: Program, seconds: float = PATIENCE) -> dict[str, Any]:
    """Lets a training program construct its data set."""
    program.answer(START_SECONDS)
    program.go()
    return program.answer(seconds)


def next_pass(program: Program, before: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Waits for the program's gate, does ``before``, and returns what the pass reports."""
    program.answer(START_SECONDS)
    before()
    program.go()
    return program.answer(PATIENCE)


@dataclass
class Usage:
    """What store and daemon had spent at a moment."""

    store: float
    daemon: float
    program: float
    reads: float | None

    @classmethod
    def now(cls, store: NginxStore, here: Reached, program: Program) -> Usage:
        """Reads all counters."""
        daemon = here.tree.cpu_seconds() if here.tree else 0.0
        return cls(store.cpu_seconds(), daemon, program.tree.cpu_seconds(), reads_or_rest(here))


def reads_or_rest(here: Reached) -> float | None:
    """READ requests that ossmount answered so far; None, after as long a rest, for others."""
    if isinstance(here, ReachedOssmount):
        return here.reads()
    time.sleep(PUBLISHED)
    return None


@dataclass
class Epochs(Case):
    """First and later shuffled epochs of ImageFolder (or of a connector's data set)."""

    decode: bool = False
    workers: int = 8
    epochs: int = 3

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """Fresh mount, fresh cache; the store's files are in its page cache."""
        options = ["--epochs", str(self.epochs), "--workers", str(self.workers)]
        if contestant.name in SLOW:
            options += ["--seconds", str(CUT)]
        if self.decode:
            options.append("--decode")
        with reached(ground, contestant, IMAGES, LATENCY) as (store, here, _), training(here, *options) as p:
            constructed(p)
            spent = Usage.now(store, here, p)
            for number in range(self.epochs):
                epoch = next_pass(p)
                before, spent = spent, Usage.now(store, here, p)
                self._report(report, number, epoch, before, spent)
                if here.tree is not None:
                    report(f"PSS after epoch {number + 1}", here.tree.pss_bytes() / 1e6, "MB")
                if not epoch["whole"]:
                    break

    def _report(
        self, report: Report, number: int, epoch: dict[str, Any], before: Usage, after: Usage
    ) -> None:
        images, seconds = epoch["images"], epoch["seconds"]
        which = "first epoch" if number == 0 else "later epochs"
        report(which, images / seconds, "images/s")
        report(f"program CPU, {which}", 1e3 * (after.program - before.program) / images, "ms/image")
        if after.daemon:
            report(f"daemon CPU, {which}", 1e3 * (after.daemon - before.daemon) / images, "ms/image")
        if number == 0:
            store = after.store - before.store
            report("store CPU, first epoch", 1e3 * store / images, "ms/image")
            # The store's processes ran on the same cores: without them the same work has that much
            # less to share, spread over all cores.
            report("first epoch without store", images / (seconds - store / os.cpu_count()), "images/s")  # type: ignore[operator]
        elif after.reads is not None and before.reads is not None:
            report("READs in later epochs", after.reads - before.reads, "requests")


@dataclass
class LockedEpoch(Case):
    """A later epoch whose pages the machine cannot take: what is read then, the mount forgot."""

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """All files are locked in memory between the first epoch and the second."""
        with (
            reached(ground, contestant, IMAGES, LATENCY) as (_, here, _scratch),
            training(here, "--epochs", "2") as program,
        ):
            assert isinstance(here, ReachedOssmount)
            constructed(program)
            next_pass(program)
            with locked_in_memory(files_below(Path(here.source))):
                before = here.reads()
                epoch = next_pass(program)
                report("READs", here.reads() - before, "requests")
            report("images", epoch["images"], "images")


@dataclass
class Construction(Case):
    """ImageFolder's constructor on a tree of many small files."""

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """A fresh mount with its index; entries are files and directories."""
        with reached(ground, contestant, NAMES, LATENCY) as (store, here, _):
            with training(here, "--epochs", "0") as program:
                program.answer(START_SECONDS)
                before = sum(store.requests().values())
                program.go()
                built = program.answer(PATIENCE)
            entries = built["files"] + ground.sizes.classes
            report("entries", entries / built["seconds"], "entries/s")
            report("store requests", sum(store.requests().values()) - before, "requests")


@dataclass
class Sequential(Case):
    """One large object from front to back."""

    rate: int = 90_000_000

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """A fresh mount; the native engine is a reader of its own."""
        with reached(ground, contestant, LARGE, LATENCY, self.rate) as (store, here, _):
            if contestant.name == Native.name:
                program = reader("parts", f"{store.url}/{LARGE}/{OBJECT}")
            else:
                program = reader("sequential", f"{here.source}/{OBJECT}")
            with program:
                done = next_pass(program)
            report("throughput", done["bytes"] / done["seconds"] / 1e6, "MB/s")
            if here.tree is not None:
                report("daemon CPU", here.tree.cpu_seconds() / (done["bytes"] / 1e9), "s/GB")
                report("PSS", here.tree.pss_bytes() / 1e6, "MB")

    def contestant(self, name: str) -> Contestant:
        """The native engine's own parallel download takes part too."""
        return Native() if name == "native" else CONTESTANTS[name]


class Native(Contestant):
    """The native transfer engine without any mount."""

    name = "native engine, parallel"

    @contextmanager
    def reach(self, ground: Ground, store: NginxStore, bucket: str, scratch: Path) -> Iterator[Reached]:
        """Nothing to mount."""
        yield Reached(store.url)


@dataclass
class Random(Case):
    """Random 128 KiB blocks of one large object from 32 threads."""

    seconds: float = 4.0

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """A fresh mount."""
        with reached(ground, contestant, LARGE, LATENCY) as (store, here, _):
            with reader("random", f"{here.source}/{OBJECT}", "--seconds", str(self.seconds)) as program:
                done = next_pass(program)
            report("reads", done["reads"] / done["seconds"], "reads/s")
            report("requests", store.requests()["GET"] / max(done["reads"], 1), "GETs/read")


@dataclass
class DiskCached(Case):
    """An epoch from the disk cache with an empty page cache."""

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """One epoch to fill the cache, then the page cache is dropped before each of two more."""
        with (
            reached(ground, contestant, IMAGES, 0.0, locked=False) as (store, here, _),
            training(here, "--epochs", "3", "--workers", "8") as program,
        ):
            constructed(program)
            next_pass(program)
            for _ in range(2):
                before = store.requests()["GET"]
                done = next_pass(program, drop_caches)
                report("dropped epoch", done["images"] / done["seconds"], "images/s")
                report("store GETs", store.requests()["GET"] - before, "requests")


@dataclass
class Workers(Case):
    """Readers that are bound by READ requests: nothing read ahead or pushed, page cache dropped."""

    def contestant(self, name: str) -> Contestant:
        """``ossmount-N``: with N workers."""
        base = CONTESTANTS["ossmount"]
        assert isinstance(base, Ossmount)
        return base.with_options("--workers", name.rpartition("-")[2], "--readahead", "off", "--no-push")

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """A pass of GETs that fills the disk cache, then passes with a dropped page cache."""
        with (
            reached(ground, contestant, IMAGES, 0.0) as (_, here, _scratch),
            reader("files", here.source, "--processes", "8", "--passes", "4") as program,
        ):
            done = next_pass(program)
            report("files, a GET each", done["files"] / done["seconds"], "files/s")
            for _ in range(3):
                done = next_pass(program, drop_caches)
                report("files", done["files"] / done["seconds"], "files/s")


@dataclass
class Memory(Case):
    """The daemon's memory with a million files mounted and an epoch running."""

    seconds: float = 15.0

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """PSS of all its processes, sampled twice a second; the peak counts."""
        with (
            reached(ground, contestant, MILLION, LATENCY) as (_, here, _scratch),
            training(here, "--epochs", "1", "--seconds", str(self.seconds)) as program,
        ):
            built = constructed(program)
            report("construction", built["files"] / built["seconds"], "files/s")
            with peak_pss(here) as peak:
                done = next_pass(program)
            report("peak PSS", peak[0] / 1e6, "MB")
            report("first epoch", done["images"] / done["seconds"], "images/s")


@contextmanager
def peak_pss(here: Reached) -> Iterator[list[int]]:
    """A list whose one item becomes the highest PSS seen inside the block, in bytes."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            if here.tree is not None:
                peak[0] = max(peak[0], here.tree.pss_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


_OURS = ("ossmount", "ossmount-order")
_CONNECTORS = ("oss-connector", "s3-connector")
_MOUNTS = ("juicefs", "rclone", "s3fs")

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Construction("construction", "ImageFolder construction", ("local", "ossmount", *_MOUNTS)),
        Epochs(
            "raw-8",
            "Epochs, raw loader, 8 loader workers",
            ("local", *_OURS, *_CONNECTORS, *_MOUNTS),
        ),
        LockedEpoch("locked", "A later epoch, raw loader, pages locked in memory", ("ossmount",)),
        Epochs(
            "raw-2",
            "Epochs, raw loader, 2 loader workers",
            ("local", *_OURS, "oss-connector", "juicefs"),
            workers=2,
        ),
        Epochs(
            "decode-8",
            "Epochs, decoding loader, 8 loader workers",
            ("local", *_OURS, "oss-connector", "juicefs"),
            decode=True,
        ),
        Epochs(
            "decode-2",
            "Epochs, decoding loader, 2 loader workers",
            ("local", *_OURS),
            decode=True,
            workers=2,
            epochs=2,
        ),
        Sequential(
            "sequential",
            "1 GiB sequential, 90 MB/s per connection",
            ("native", "ossmount", "juicefs", "rclone", "s3fs"),
        ),
        Random("random", "Random 128 KiB, 32 threads", ("ossmount", "juicefs", "rclone", "s3fs")),
        DiskCached("disk-cached", "Disk-cached, page cache dropped", ("local", "ossmount", "juicefs")),
        Workers("workers", "Two workers against one, READ-bound", ("ossmount-1", "ossmount-2")),
        Memory("memory", "One million files mounted, epoch running", ("ossmount",), most_rounds=1),
    )
}
"""Every case by name, in the order of the report."""
