"""The soak: readers that never stop, while children are killed and the store fails.

What is asked: no wrong byte ever; no error but while the store was down for longer than retries last; and
that memory and descriptors of the mount's processes do not grow. ``python -m tests.soak --minutes 60``.
Trouble begins at once, or (``--unasked``) when the kernel has been told to open files without asking.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ossmount.fs.filesystem import ALL_AGAIN
from tests.servers.oss_server import OssServer, oss_server
from tests.soak.reader import content
from tests.support.command import CommandMount, command_home

SETTLED_SECONDS = 120.0
"""More than enough for readers to have read all twice."""

READER = Path(__file__).with_name("reader.py")
FILES = 400
MANY_FILES = 2 * ALL_AGAIN
"""So many that opens can be found to say nothing."""

SIZES = (1, 4095, 70_000, 300_000)
"""Bytes; by turns. The last is above the kernel's first read, so it takes several READs."""


@dataclass
class Report:
    """What the soak saw. ``memory`` is the mount's PSS in bytes, ``descriptors`` their number."""

    files: int = 0
    wrong: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    store_faults: int = 0
    memory: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def add(self, counts: dict[str, int]) -> None:
        """One reader's counts."""
        self.files += counts.pop("files", 0)
        self.wrong += counts.pop("wrong", 0)
        self.errors.update(counts)


def fill(server: OssServer, bucket: str, files: int) -> None:
    """Puts the objects whose content the readers know."""
    for number in range(files):
        name = f"file_{number:05d}"
        server.put(bucket, f"data/{name}", content(name, SIZES[number % len(SIZES)]))


@contextmanager
def readers(
    directory: Path, count: int, report: Report, *options: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """``count`` reading processes; their counts are in ``report`` at the end."""
    running = [
        subprocess.Popen(
            [sys.executable, str(READER), str(directory), str(seed), *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(count)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                out, _ = process.communicate(timeout=60)
                if out:
                    report.add(json.loads(out))
            process.kill()


def usage_of(pids: list[int]) -> tuple[int, int]:
    """(PSS in bytes, open descriptors) of the processes together; one that just died counts nothing."""
    memory = descriptors = 0
    for pid in pids:
        with suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            memory += 1024 * int(rollup.partition("Pss:")[2].split()[0])
            descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return memory, descriptors


class Trouble:
    """Makes one kind of trouble at a time, in an order that follows from the seed."""

    def __init__(self, mount: CommandMount, server: OssServer, report: Report, seed: int) -> None:
        self._mount, self._server, self._report = mount, server, report
        self._random = random.Random(seed)

    def make(self) -> None:
        """The next trouble."""
        kinds: list[Callable[[], None]] = [self._kill_worker, self._kill_prefetcher, self._fail_store]
        self._random.choice(kinds)()

    def _kill_worker(self) -> None:
        self._kill("worker")

    def _kill_prefetcher(self) -> None:
        self._kill("prefetcher")

    def _kill(self, kind: str) -> None:
        if pids := self._mount.children(kind):
            with suppress(ProcessLookupError):
                os.kill(self._random.choice(pids), signal.SIGKILL)
                self._report.kills[kind] += 1

    def _fail_store(self) -> None:
        """A few answers of 500 or 503: fewer in a row than a request is retried."""
        status, code = self._random.choice([(500, "InternalError"), (503, "ServiceUnavailable")])
        self._server.fail_next(status, code, times=3)
        self._report.store_faults += 3


def settle(mount: CommandMount, running: list[subprocess.Popen[str]], say: Callable[[str], None]) -> None:
    """Waits until the kernel is told to open files without asking; readers drop pages from then on."""
    end = time.monotonic() + SETTLED_SECONDS
    while not mount.stats()["fs"]["opens_unasked"]:
        assert time.monotonic() < end, f"opens are still asked for: {mount.stats()['fs']}"
        time.sleep(0.2)
    say("the kernel has been told to open files without asking")
    for process in running:
        process.send_signal(signal.SIGUSR1)


def soak(
    place: Path,
    seconds: float,
    pause: float,
    seed: int = 7,
    say: Callable[[str], None] = str,
    *,
    unasked: bool = False,
) -> Report:
    """Runs the soak below ``place`` for ``seconds``, a trouble every ``pause`` seconds.

    ``unasked``: not before the kernel is told to open files without asking; the cache then has to hold them
    all.
    """
    report = Report()
    files, cache = (MANY_FILES, "256M") if unasked else (FILES, "16M")
    with ExitStack() as stack:
        server = stack.enter_context(oss_server())
        fill(server, "soak", files)
        home = stack.enter_context(command_home(place, server.environment()))
        mount = home.mount(
            *("--endpoint-url", server.endpoint_url, "--region", server.region),
            *("--addressing-style", "path", "--cache-size", cache, "--memory-cache", "4M"),
            "oss://soak/data/",
        )
        with readers(mount.path, 4, report, *(["--keep"] if unasked else [])) as running:
            if unasked:
                settle(mount, running, say)
            run_trouble(Trouble(mount, server, report, seed), home.processes, report, seconds, pause, say)
        mount.umount()
        assert home.left_behind() == []
    return report


def run_trouble(
    trouble: Trouble,
    processes: Callable[[], list[int]],
    report: Report,
    seconds: float,
    pause: float,
    say: Callable[[str], None],
) -> None:
    """Troubles until the time is over; memory and descriptors are looked at after each."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(pause, max(0.0, end - time.monotonic())))
        trouble.make()
        memory, descriptors = usage_of(processes())
        report.memory.append(memory)
        report.descriptors.append(descriptors)
        say(f"{memory >> 20} MiB, {descriptors} descriptors, kills {dict(report.kills)}")
