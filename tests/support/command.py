"""The real command in a home of its own: its mounts, and the proof that nothing of them stays.

Every run gets ``OSSMOUNT_RUNTIME_DIR`` below the home; a process that carries this variable's value in its
environment belongs to the test, whoever forked it. Touch it when the command leaves traces of a new kind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.counters import rested
from tests.support.mounting import is_mounted, is_running, wait_for

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 60.0
"""Hard limit of one command; each takes about one second on an idle machine."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished command said."""

    status: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """The lines of standard error."""
        return self.err.splitlines()


@dataclass(frozen=True, slots=True)
class Home:
    """Where one test's commands run: cache, runtime directory, mountpoints, temporary files."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def runtime(self) -> Path:
        return self.path / "runtime"

    @property
    def log_file(self) -> Path:
        return self.path / "daemon.log"

    @property
    def log(self) -> str:
        """What the daemons logged so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def variables(self) -> dict[str, str]:
        """The environment of every command: nothing of this machine's credentials or configuration."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        own = {
            "HOME": str(self.path),
            "TMPDIR": str(self.path / "tmp"),
            "PYTHONPATH": str(ROOT),
            "OSSMOUNT_RUNTIME_DIR": str(self.runtime),
            "OSSMOUNT_CACHE_DIR": str(self.cache),
            "OSSMOUNT_LOG_FILE": str(self.log_file),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        return kept | own | self.environment

    def start(
        self, *words: str, env: Mapping[str, str] | None = None, stdin: Any = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Starts ``ossmount WORDS``."""
        return subprocess.Popen(
            [sys.executable, "-m", "ossmount", *words],
            cwd=self.path,
            env={**self.variables(), **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, env: Mapping[str, str] | None = None, seconds: float = RUN_SECONDS) -> Outcome:
        """Runs ``ossmount WORDS`` until it ends and nobody holds its output any more."""
        process = self.start(*words, env=env)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            self.end()
            out, err = process.communicate(timeout=10)
            pytest.fail(f"ossmount {' '.join(words)}: no end after {seconds} s\n{out}{err}{self.log}")
        return Outcome(process.returncode, out, err)

    def mount(
        self, *words: str, at: Path | None = None, env: Mapping[str, str] | None = None
    ) -> CommandMount:
        """Mounts with ``ossmount mount WORDS MOUNTPOINT``, which must succeed."""
        mountpoint = at or self.directory()
        outcome = self.run("mount", *words, str(mountpoint), env=env)
        if outcome.status != 0:
            pytest.fail(f"the mount failed with {outcome.status}: {outcome.err}\n{self.log}")
        return CommandMount(self, mountpoint, outcome)

    def directory(self) -> Path:
        """A new empty directory."""
        path = self.path / f"mnt{sum(1 for _ in self.path.glob('mnt*'))}"
        path.mkdir()
        return path

    def processes(self) -> list[int]:
        """Every process of this home's commands that still runs."""
        return [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and self._owns(folder) and is_running(int(folder.name))
        ]

    def _owns(self, folder: Path) -> bool:
        mark = f"OSSMOUNT_RUNTIME_DIR={self.runtime}".encode()
        try:
            return mark in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def mounts(self) -> list[Path]:
        """What is mounted below this home, from mountinfo."""
        paths = (Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines())
        return [path for path in paths if path.is_relative_to(self.path)]

    def left_behind(self) -> list[str]:
        """Mounts, processes, runtime directories, unfinished indexes and temporary files."""
        indexes = self.cache / "indexes"
        folders = [self.runtime, self.path / "tmp"]
        files = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        files += [path for path in indexes.rglob("*") if path.is_file() and path.suffix != ".ossidx"]
        return [*map(str, self.mounts()), *(f"process {pid}" for pid in self.processes()), *map(str, files)]

    def end(self) -> None:
        """Detaches every mount, and kills every process, by their ids."""
        for path in self.mounts():
            subprocess.run(["umount", "-l", str(path)], check=False, timeout=10, capture_output=True)
        with contextlib.suppress(pytest.fail.Exception):
            wait_for(lambda: not self.processes(), 3)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class CommandMount:
    """A mount made by the command."""

    home: Home
    path: Path
    outcome: Outcome = Outcome(0, "", "")

    def supervisor(self) -> int:
        """The supervisor's pid, as ``ossmount list --json`` gives it."""
        rows = json.loads(self.home.run("list", "--json").out)
        return next(int(row["supervisor"]) for row in rows if row["mountpoint"] == str(self.path))

    def children(self, kind: str) -> list[int]:
        """Living processes of a kind (``worker``, ``prefetcher``) that have published their counters."""
        folders = self.home.runtime.glob(f"*/stats/{kind}-*.json")
        pids = [int(path.stem.rpartition("-")[2]) for path in folders]
        return [pid for pid in pids if is_running(pid)]

    def stats(self) -> dict[str, Any]:
        """The counters of ``ossmount stats --json``: what children have published so far, twice a second.

        What has just happened may be missing: wait for it, or take ``rested_stats``.
        """
        return dict(json.loads(self.home.run("stats", "--json", str(self.path)).out))

    def rested_stats(self) -> dict[str, Any]:
        """The same once they stand still, so that nothing is missing."""
        return rested(self.stats)

    def umount(self) -> Outcome:
        """Unmounts; afterwards nothing of it may be left."""
        outcome = self.home.run("umount", str(self.path))
        assert (outcome.status, outcome.err) == (0, ""), outcome.err + self.home.log
        assert not is_mounted(self.path)
        return outcome


@contextlib.contextmanager
def command_home(path: Path, environment: Mapping[str, str] | None = None) -> Iterator[Home]:
    """A home below ``path``; at the end nothing of it is mounted and none of its processes runs."""
    (path / "tmp").mkdir(parents=True)
    home = Home(path, dict(environment or {}))
    try:
        yield home
    finally:
        home.end()
