"""Cases of many objects: how fast they are indexed, and what a mount of them costs.

``python -m tests.bench --cases listing manifest huge inventory refresh`` (with ``--rounds``); they are not
part of a run that names no case: their data take minutes to make and some gigabytes, once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.cases import LATENCY, Case, Report, reader
from tests.bench.contestants import Contestant, ReachedOssmount
from tests.bench.ground import IMAGES, OSSMOUNT, Ground, clean_environment, reaching
from tests.bench.nginx_store import NginxStore
from tests.bench.processes import ProcessTree, daemon, drop_caches
from tests.bench.scale_data import Changing, make_inventory, make_listing, make_manifest

KEYS = "keys"
CHANGING = "changing"
NOWHERE = ("--endpoint-url", "http://127.0.0.1:9", "--region", "us-east-1", "--no-sign-request")
"""A store that nobody asks: what these cases do must not need one."""
BUILD_SECONDS = 900.0
SETTLE = 2.0
"""Seconds in which programs read after a refresh."""
RARE = 1_000_000
"""Rows from which on the machine's page cache is dropped: a trial run must not do that to others."""
WALKED = 100
"""Directories that are walked of an index of a thousand: a million of ten million entries."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a command took: wall and CPU seconds, and the memory of the largest of its processes."""

    seconds: float
    cpu: float
    peak: int


def run(*words: str | Path, core: int | None = None) -> Spent:
    """Runs ``ossmount WORDS``, on one core if ``core`` names it. Raises RuntimeError."""
    on_core = ("taskset", "-c", str(core)) if core is not None else ()
    command = [sys.executable, "-c", _MEASURING, *on_core, *OSSMOUNT, *map(str, words)]
    done = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    status, seconds, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    if status:
        raise RuntimeError(f"{' '.join(map(str, words[:2]))}: {done.stderr[-600:]}")
    return Spent(seconds, cpu, peak << 10)


_MEASURING = """
import json, os, sys, time
started = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
seconds = time.monotonic() - started
cpu = usage.ru_utime + usage.ru_stime
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, cpu, usage.ru_maxrss]))
"""
"""A small process in between: Linux counts a parent's memory to what it starts (exec(2) hands it on)."""


def report_build(report: Report, what: str, count: int, spent: Spent) -> None:
    """Rate, CPU and memory of a build."""
    report(what, count / spent.seconds, "objects/s")
    report(f"{what}, CPU", 1e6 * spent.cpu / count, "µs/object")
    report(f"{what}, peak RSS", spent.peak / 1e6, "MB")


@dataclass
class Listing(Case):
    """LIST of a million keys, index written; once in a thousand directories and once in many small ones."""

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """The store has answered once before: it makes its answers at their first time."""
        count = ground.sizes.million
        make_listing(ground.data, KEYS, count)
        with ground.fresh_directory() as scratch, NginxStore(ground.data, LATENCY, names=(KEYS,)) as store:
            command = ("index", "build", *reaching(store), f"s3://{KEYS}/")
            run(*command, scratch / "warm.ossidx")
            before = store.requests()["LIST"]
            spent = run(*command, scratch / "listed.ossidx")
            report_build(report, "listed", count, spent)
            report("requests", store.requests()["LIST"] - before, "requests")


@dataclass
class Manifest(Case):
    """A manifest of ten million rows: sorted on one core, and in no order."""

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """With sizes and ETags: without either the store would be asked."""
        count = ground.sizes.rows
        with ground.fresh_directory() as scratch:
            for what, core in (("sorted", 0), ("unsorted", None)):
                manifest = manifest_of(ground, what)
                index = scratch / f"{what}.ossidx"
                command = ("--manifest", manifest, "--base-uri", f"s3://{KEYS}/")
                report_build(report, what, count, run("index", "build", *NOWHERE, *command, index, core=core))
                report(f"{what}, size", index.stat().st_size / count, "bytes/object")
                index.unlink()


def manifest_of(ground: Ground, what: str) -> Path:
    """The manifest of paths, sizes and ETags, ``sorted`` or ``unsorted``."""
    return make_manifest(ground.data / f"{what}.csv", ground.sizes.rows, shuffled=what == "unsorted")


@dataclass
class Huge(Case):
    """A mount of ten million objects, from an index: until the first listing, and its memory."""

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """Programs and index are in the page cache, then not."""
        index = huge_index(ground)
        states: dict[str, Callable[[], object]] = {"first ls": _nothing}
        if ground.sizes.rows >= RARE:
            states["first ls, page cache dropped"] = drop_caches
        for what, prepare in states.items():
            with ground.fresh_directory() as scratch:
                prepare()
                started = time.monotonic()
                with huge_mount(index, scratch) as tree:
                    os.listdir(scratch / "mnt")  # noqa: PTH208 - what is measured
                    report(what, time.monotonic() - started, "s")
                    if prepare is _nothing:
                        self._walk(scratch / "mnt", tree, report)

    def _walk(self, mountpoint: Path, tree: ProcessTree, report: Report) -> None:
        started, entries = time.monotonic(), 0
        for directory in sorted(os.listdir(mountpoint))[:WALKED]:  # noqa: PTH208
            with os.scandir(mountpoint / directory) as found:
                entries += sum(entry.stat().st_size > 0 for entry in found)
        report("walk with stat", entries / (time.monotonic() - started), "entries/s")
        report("walked", entries, "entries")
        report("PSS after the walk", tree.pss_bytes() / 1e6, "MB")
        for name, value in memory(tree).items():
            report(f"{name} after the walk, largest process", value / 1e6, "MB")


def huge_index(ground: Ground) -> Path:
    """The index of ten million objects, built once and kept."""
    index = ground.data / f"huge-{ground.sizes.rows}.ossidx"
    if not index.exists():
        manifest = manifest_of(ground, "sorted")
        run("index", "build", *NOWHERE, "--manifest", manifest, "--base-uri", f"s3://{KEYS}/", index)
    return index


@contextmanager
def huge_mount(index: Path, scratch: Path, *options: str) -> Iterator[ProcessTree]:
    """A mount of an index whose store nobody asks."""
    command = ["mount", "-f", *NOWHERE, "--cache-dir", str(scratch / "cache"), *options, str(index)]
    with daemon(
        [*OSSMOUNT, *command, str(scratch / "mnt")], scratch / "mnt", clean_environment(), scratch / "log"
    ) as tree:
        yield tree


def memory(tree: ProcessTree) -> dict[str, int]:
    """The greatest RSS of one process, and of what is its own (not mapped from a file), in bytes."""
    found: dict[str, int] = {"RSS": 0, "anonymous": 0}
    for pid in tree.pids():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith(" kB")}
        found["RSS"] = max(found["RSS"], sizes["VmRSS"])
        found["anonymous"] = max(found["anonymous"], sizes["RssAnon"])
    return found


@dataclass
class Inventory(Case):
    """An inventory of a million rows in Parquet gives the index that LIST gives."""

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """Compared row by row as they are exported, with sizes, ETags and times."""
        count = ground.sizes.million
        make_listing(ground.data, KEYS, count)
        place = make_inventory(ground.data, KEYS)
        with ground.fresh_directory() as scratch, NginxStore(ground.data, LATENCY, names=(KEYS,)) as store:
            listed, read = scratch / "listed.ossidx", scratch / "read.ossidx"
            run("index", "build", *reaching(store), f"s3://{KEYS}/", listed)
            spent = run("index", "build", *NOWHERE, "--manifest", place, read)
            report_build(report, "inventory", count, spent)
            report("rows that differ", _differences(listed, read, scratch), "rows")


def _differences(one: Path, other: Path, scratch: Path) -> int:
    texts = []
    for index in (one, other):
        text = scratch / f"{index.stem}.tsv"
        run("index", "export", index, text)
        texts.append(text.read_bytes().splitlines())
    return sum(a != b for a, b in zip(*texts, strict=False)) + abs(len(texts[0]) - len(texts[1]))


@dataclass
class Refresh(Case):
    """A million objects of which one in a hundred changes, while programs read from the mount."""

    parts: int = 3
    """Directories whose unchanged files are looked at: some ten thousand."""

    def run(self, ground: Ground, contestant: Contestant, report: Report) -> None:
        """Errors and wrong bytes are counted by the programs; READs by the mount."""
        images = ground.bucket(IMAGES)
        copies = ground.sizes.million // ground.sizes.images
        bucket = Changing(ground.data, CHANGING, images, copies)
        with (
            ground.fresh_directory() as scratch,
            NginxStore(ground.data, LATENCY, names=(CHANGING,)) as store,
        ):
            mountpoint = scratch / "mnt"
            command = [*OSSMOUNT, "mount", "-f", *reaching(store), "--cache-dir", str(scratch / "cache")]
            where = [f"s3://{CHANGING}/", str(mountpoint)]
            with daemon([*command, *where], mountpoint, clean_environment(), scratch / "log", 120) as tree:
                here = ReachedOssmount(str(mountpoint), tree, mountpoint)
                self._measure(bucket, store, here, report)

    def _measure(self, bucket: Changing, store: NginxStore, here: ReachedOssmount, report: Report) -> None:
        paths = bucket.paths()
        stays = sorted(set(paths) - set(bucket.changed))[:1000]
        folders = [f"part_{part:03d}" for part in range(self.parts)]
        names = [f"{folder}/{path}" for folder in folders for path in stays]
        read_all(here, [f"{folder}/{path}" for folder in folders for path in paths])
        drops = cache_drops()
        with steady(bucket, here, self.parts) as results:
            bucket.change()
            store.reload()
            started = time.monotonic()
            refreshed = refresh(here)
            report("refresh", time.monotonic() - started, "s")
            time.sleep(SETTLE)  # programs go on reading in the new generation
        report("changed", refreshed["changed"], "objects")
        report("added or gone", refreshed["added"] + refreshed["gone"], "objects")
        report("files read by programs", sum(r["files"] for r in results), "files")
        report("of these of the new generation", sum(r["newer"] for r in results), "files")
        wrong = [line for r in results for line in r["wrong"]]
        report("errors and wrong bytes", len(wrong), "files")
        if wrong:
            raise RuntimeError("; ".join(wrong[:3]))
        before = here.reads()
        read_all(here, names)
        if cache_drops() != drops:
            raise RuntimeError("somebody dropped the machine's page cache meanwhile")
        report("READs of unchanged files", here.reads() - before, "requests")
        report("unchanged files read again", len(names), "files")
        assert here.tree is not None
        report("PSS after the refresh", here.tree.pss_bytes() / 1e6, "MB")


def read_all(here: ReachedOssmount, names: Sequence[str]) -> None:
    """Reads files once."""
    for name in names:
        (Path(here.source) / name).read_bytes()


def cache_drops() -> int:
    """How often somebody has dropped the machine's page cache."""
    fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(fields["drop_pagecache"])


def refresh(here: ReachedOssmount) -> dict[str, Any]:
    """What ``ossmount refresh`` says. Raises RuntimeError."""
    done = subprocess.run(
        [*OSSMOUNT, "refresh", "--json", here.source],
        env=clean_environment(), capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"refresh: {done.stderr[-600:]}")
    return dict(json.loads(done.stdout))


@contextmanager
def steady(bucket: Changing, here: ReachedOssmount, cached: int) -> Iterator[list[dict[str, Any]]]:
    """Programs that read at random until the block ends; the list then has what they found."""
    found: list[dict[str, Any]] = []
    command = ["steady", here.source, "--versions", *map(str, bucket.versions), "--cached", str(cached)]
    with reader(*command) as one, reader(*command, "--seed", "2") as other:
        for program in (one, other):
            program.answer(60)
            program.go()
            program.answer(60)  # it has read something
        yield found
        for program in (one, other):
            program.go()
            found.append(program.answer(60))


def _nothing() -> None:
    """Leaves caches as they are."""


SCALE: dict[str, Case] = {
    case.name: case
    for case in (
        Listing("listing", "LIST of a million keys, index written", ("ossmount",)),
        Manifest("manifest", "Manifest of ten million rows", ("ossmount",)),
        Huge("huge", "Ten million objects mounted", ("ossmount",)),
        Inventory("inventory", "Inventory of a million rows against LIST", ("ossmount",)),
        Refresh("refresh", "A million objects refreshed under load", ("ossmount",)),
    )
}
"""Every case by name."""
