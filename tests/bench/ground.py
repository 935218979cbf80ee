"""What a run stands on: prepared data that is kept, and a scratch directory that is not.

What may live here: making buckets once, starting stores, indexes built once per run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import dataset
from tests.bench.nginx_store import NginxStore, write_keys
from tests.bench.processes import page_in
from tests.support.residency import files_below, locked_in_memory, may_lock

IMAGES = "images"
NAMES = "names"
LARGE = "large"
MILLION = "million"
OBJECT = "one.bin"
KEPT = frozenset({IMAGES, LARGE})
"""Buckets that are held in memory while they are served; the others have too many files, or none."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much data a run uses."""

    images: int = 4000
    names: int = 100_000
    classes: int = 1000
    large: int = 1 << 30
    million: int = 1_000_000
    rows: int = 10_000_000


QUICK = Sizes(images=64, names=200, classes=10, large=16 << 20, million=6400, rows=20_000)
"""Enough to prove that everything runs; figures mean nothing."""


@dataclass
class Ground:
    """Directories of a run. ``data`` outlives it; ``scratch`` is new for each measurement."""

    data: Path
    sizes: Sizes = field(default_factory=Sizes)

    def __enter__(self) -> Ground:
        self.data.mkdir(parents=True, exist_ok=True)
        self._temporary = tempfile.TemporaryDirectory(prefix="ossmount-bench-", ignore_cleanup_errors=True)
        self.scratch = Path(self._temporary.name).resolve()
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    @contextlib.contextmanager
    def fresh_directory(self) -> Iterator[Path]:
        """A directory of its own for one measurement's mountpoint and cache, removed afterwards."""
        path = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            yield path
        finally:
            shutil.rmtree(path / "cache", ignore_errors=True)

    def bucket(self, name: str) -> Path:
        """The directory behind bucket ``name``, made if need be, in the page cache."""
        path = self.data / name
        make = {IMAGES: self._images, NAMES: self._names, LARGE: self._large, MILLION: self._million}
        make[name](path)
        if name in KEPT:
            page_in(path)
        return path

    @contextlib.contextmanager
    def store(self, bucket: str, latency: float, rate: int = 0, locked: bool = True) -> Iterator[NginxStore]:
        """A store that serves ``bucket`` out of memory; ``locked``: the machine may not take it away."""
        path = self.bucket(bucket)
        kept = self.kept_in_memory(bucket, path) if locked else contextlib.nullcontext()
        with kept, NginxStore(self.data, latency, rate, names=(bucket,)) as store:
            yield store

    @contextlib.contextmanager
    def kept_in_memory(self, bucket: str, directory: Path) -> Iterator[None]:
        """Locks the files of ``directory``, which hold ``bucket``, in memory where that is allowed.

        Machines that page idle memory out would have a store read its disk, and measure that.
        """
        files = files_below(directory) if bucket in KEPT else []
        with locked_in_memory(files if may_lock(sum(file.stat().st_size for file in files)) else []):
            yield

    def index(self, store: NginxStore, bucket: str) -> Path:
        """The index of a bucket, built once per run."""
        path = self.scratch / f"{bucket}.index"
        if not path.exists():
            command = ["index", "build", *reaching(store), f"s3://{bucket}/", str(path)]
            run = subprocess.run(
                [*OSSMOUNT, *command], capture_output=True, text=True, timeout=180, check=False
            )
            if run.returncode:
                raise RuntimeError(f"no index of {bucket}: {run.stderr[-600:]}")
        return path

    def _images(self, path: Path) -> None:
        dataset.make_images(path, self.sizes.images)

    def _names(self, path: Path) -> None:
        dataset.make_names(path, self.sizes.names, self.sizes.classes)

    def _large(self, path: Path) -> None:
        dataset.make_object(path / OBJECT, self.sizes.large)

    def _million(self, path: Path) -> None:
        """As many keys as wanted without as many files: links to the images' directory."""
        self._images(self.data / IMAGES)
        keys = path.with_suffix(".keys")
        copies = self.sizes.million // self.sizes.images
        path.mkdir(exist_ok=True)
        if keys.exists() and len(list(path.iterdir())) == copies:
            return
        write_keys(self.data / IMAGES)
        rows = (self.data / IMAGES).with_suffix(".keys").read_bytes().splitlines(keepends=True)
        with keys.open("wb") as file:
            for copy in range(copies):
                link = path / f"part_{copy:03d}"
                if not link.is_symlink():
                    link.symlink_to(Path("..") / IMAGES)
                file.writelines(f"part_{copy:03d}/".encode() + row for row in rows)


OSSMOUNT = (sys.executable, "-m", "ossmount")


def reaching(store: NginxStore) -> list[str]:
    """Options that lead ossmount to the local store."""
    return [
        *("--endpoint-url", store.url, "--region", "us-east-1"),
        *("--addressing-style", "path", "--no-sign-request"),
    ]


def clean_environment() -> dict[str, str]:
    """The environment without what would lead clients elsewhere or make them fail at certificates."""
    unwanted = ("AWS_", "OSSMOUNT_", "OSS_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(unwanted) and "proxy" not in k.lower()}
    root = str(Path(__file__).parents[2])
    return kept | {"AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": root}


def default_data() -> Path:
    """Where prepared data is kept unless ``--data`` says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ossmount-bench"
