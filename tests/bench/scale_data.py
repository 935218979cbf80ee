"""What the cases of many objects need: listings, manifests and inventories without as many files. Made once.

What may live here: writing such data. What is measured with them stands in scale.py.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.nginx_store import write_keys

DIRECTORIES = 1000
TIME = "2026-01-02T03:04:05.000Z"
CHANGED_ONE_IN = 100
PARTS = 4
"""Files of an inventory; S3 writes several of a large bucket."""


def path_of(number: int, count: int) -> str:
    """Path of 40 bytes of object ``number`` of ``count``, in order of the numbers; half of it random."""
    scattered = (number + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    return f"class_{number * DIRECTORIES // count:04d}/{number:08d}_{scattered:016x}.jpg"


def size_of(number: int) -> int:
    """Some size like a photograph's."""
    return 60_000 + number * 7919 % 80_000


def etag_of(number: int) -> str:
    """Thirty-two hex digits, as of an object of one part."""
    return f"{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 & (1 << 128) - 1:032x}"


def make_listing(root: Path, name: str, count: int) -> None:
    """The key file of a bucket ``name`` that can only be listed."""
    (root / name).mkdir(parents=True, exist_ok=True)
    keys = root / f"{name}.keys"
    form = f"{count} {path_of(0, count)}"
    if not _is_current(keys, form):
        with keys.open("w") as file:
            for number in range(count):
                file.write(f"{path_of(number, count)}\t{size_of(number)}\t{etag_of(number)}\t{TIME}\n")
        _note(keys, form)


def make_manifest(path: Path, count: int, *, shuffled: bool) -> Path:
    """A CSV of ``count`` rows with sizes and ETags, in order or in none at all."""
    form = f"{count} {shuffled} {path_of(0, count)}"
    if not _is_current(path, form):
        with path.open("w") as file:
            file.write("key,size,etag\n")
            for number in _shuffled(count) if shuffled else range(count):
                file.write(f"{path_of(number, count)},{size_of(number)},{etag_of(number)}\n")
        _note(path, form)
    return path


def _shuffled(count: int) -> Iterator[int]:
    """Every number once, without a list of them: neighbours are far from each other."""
    step = int(count * 0.618) | 1
    while math.gcd(step, count) > 1:
        step += 2
    return (number * step % count for number in range(count))


def make_inventory(root: Path, bucket: str) -> Path:
    """An S3 inventory in Parquet of what ``<bucket>.keys`` lists; gives its manifest.json."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, keys = root / f"{bucket}.inventory", root / f"{bucket}.keys"
    place = folder / "manifest.json"
    if _is_current(place, str(keys.stat().st_mtime_ns)):
        return place
    folder.mkdir(exist_ok=True)
    rows = [line.rstrip("\n").split("\t") for line in keys.open()]
    share = len(rows) // PARTS + 1
    for part in range(PARTS):
        names, sizes, etags, times = zip(*rows[part * share : (part + 1) * share], strict=True)
        columns: dict[str, Any] = {
            "bucket": pa.array([bucket] * len(names)),
            "key": pa.array(names),
            "size": pa.array(map(int, sizes), pa.int64()),
            "last_modified_date": pa.array(times).cast(pa.timestamp("ms", tz="UTC")),
            "e_tag": pa.array(etags),
        }
        pq.write_table(pa.table(columns), folder / f"{part}.parquet")
    place.write_text(
        json.dumps(
            {
                "sourceBucket": bucket,
                "destinationBucket": "arn:aws:s3:::inventories",
                "fileFormat": "Parquet",
                "fileSchema": "message s3.inventory { required binary key (STRING); }",
                "files": [{"key": f"data/{part}.parquet"} for part in range(PARTS)],
            }
        )
    )
    _note(place, str(keys.stat().st_mtime_ns))
    return place


class Changing:
    """A bucket of many links to the same images, of which one in a hundred changes in a moment."""

    def __init__(self, root: Path, name: str, images: Path, copies: int) -> None:
        self._root, self.name, self._images, self._copies = root, name, images, copies
        self._now = root / f"{name}-now"
        self._later = root / f"{name}-later"
        bucket = root / name
        bucket.mkdir(exist_ok=True)
        for copy in range(copies):
            link = bucket / f"part_{copy:03d}"
            if not link.is_symlink():
                link.symlink_to(Path("..") / self._now.name)
        if not self._later.exists():
            self._make_later()
        self.versions = (images, self._later)
        self.changed = [p for i, p in enumerate(self.paths()) if i % CHANGED_ONE_IN == 0]
        self._turn_to(images)

    def paths(self) -> list[str]:
        """Images below each part, in order."""
        return sorted(str(path.relative_to(self._images)) for path in self._images.rglob("*.jpg"))

    def old(self, path: str) -> bytes:
        """An image before it changed."""
        return (self._images / path).read_bytes()

    def change(self) -> None:
        """One image in a hundred of every part is another from now on; the store has to load its keys."""
        self._turn_to(self._later)

    def _make_later(self) -> None:
        beside = self._later.with_suffix(".new")
        for number, path in enumerate(self.paths()):
            target = beside / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if number % CHANGED_ONE_IN:
                os.link(self._images / path, target)
            else:
                target.write_bytes(self.old(path) + b"later")
        beside.rename(self._later)

    def _turn_to(self, images: Path) -> None:
        beside = self._root / f".{self.name}.link"
        beside.symlink_to(images.name)
        beside.replace(self._now)
        write_keys(images)
        rows = images.with_suffix(".keys").read_bytes().splitlines(keepends=True)
        with (self._root / f"{self.name}.keys").open("wb") as file:
            for copy in range(self._copies):
                file.writelines(f"part_{copy:03d}/".encode() + row for row in rows)


def _is_current(path: Path, form: str) -> bool:
    """Whether ``path`` was written to its end in this form."""
    note = path.with_name(f".{path.name}.form")
    return path.exists() and note.exists() and note.read_text() == form


def _note(path: Path, form: str) -> None:
    path.with_name(f".{path.name}.form").write_text(form)
