"""Input that cannot be right: one line that names file and row, and the index that was there stays.

Touch it when a kind of bad input is met that passes, or that is told in a way nobody understands.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ossmount.cli import main
from tests.support.command import Home

HEAD = b"key,size,etag\n"
SPARE = ["--endpoint-url", "http://127.0.0.1:9", "--region", "us-east-1", "--no-sign-request"]
"""Nothing may be asked of a store: what is wrong stands in the file."""


def parquet(rows: int) -> bytes:
    out = io.BytesIO()
    names = [f"class/{number:05}" for number in range(rows)]
    pq.write_table(pa.table({"key": names, "size": [1] * rows, "etag": ["e"] * rows}), out)
    return out.getvalue()


TABLE = parquet(20_000)
BAD = {
    "truncated.parquet": (TABLE[: len(TABLE) // 2], "truncated.parquet: damaged Parquet file"),
    "overwritten.parquet": (
        TABLE[:2000] + bytes(3000) + TABLE[5000:],
        "overwritten.parquet: damaged Parquet file",
    ),
    "column.csv": (b"key,size,etag,colour\na,1,e,red\n", "column.csv:1: unknown column 'colour'"),
    "mixed.csv": (HEAD + "ä,2,e\n".encode() + "ö,3,e\n".encode("latin-1"), "mixed.csv:3: byte 1 of the line"),
    "utf16.csv": ("key,size,etag\na,1,e\n".encode("utf-16"), "utf16.csv:1: byte 1 of the line is not UTF-8"),
    "mixed.jsonl": (b'{"key": "a"}\n{"key": "\xf6"}\n', "mixed.jsonl:2: byte 10 of the line is not UTF-8"),
    "negative.csv": (HEAD + b"a,1,e\nb,-1,e\n", "negative.csv:3: the size '-1' is negative"),
    "sizes.csv": (
        HEAD + b"a,1,e\nb,1,e\na,2,f\n",
        "sizes.csv:4: s3://b/t/a has 2 bytes here and 1 in sizes.csv:2",
    ),
    "sorted-sizes.csv": (
        HEAD + b"a,1,e\na,2,e\nb,1,e\n",
        "sorted-sizes.csv:3: s3://b/t/a has 2 bytes here and 1 in sorted-sizes.csv:2",
    ),
    "slash.csv": (
        b"key,size,etag,label\na,1,e,cat\nb,1,e,c/d\n",
        "slash.csv:3: the label 'c/d' contains '/'",
    ),
    "dots.csv": (b"key,size,etag,label\na,1,e,..\n", "dots.csv:2: the label '..' cannot be a directory name"),
    "blank.csv": (b"key,size,etag,label\na,1,e, \n", "blank.csv:2: the label is empty"),
}


@pytest.fixture
def kept(home: Home) -> Path:
    """An index that stands where another is to be built."""
    (home.path / "good.csv").write_bytes(HEAD + b"good,1,e\n")
    path = home.path / "made" / "train.ossidx"
    done = home.run("index", "build", *SPARE, *manifest(home, "good.csv"), str(path))
    assert done.status == 0, done.err
    return path


def manifest(home: Home, name: str) -> list[str]:
    return ["--manifest", name, "--base-uri", "s3://b/t/"]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_manifest(home: Home, kept: Path, name: str) -> None:
    data, line = BAD[name]
    (home.path / name).write_bytes(data)
    check_refused(home, kept, [*manifest(home, name)], line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--split", "train=0.5,val=0.4"], "--split: the shares sum to 0.9, not to 1"),
        (["--columns", "key=path"], "good.csv:1: no column 'path'; there are key, size, etag"),
    ],
)
def test_bad_options(home: Home, kept: Path, options: list[str], line: str) -> None:
    check_refused(home, kept, [*manifest(home, "good.csv"), *options], line)


def test_a_truncated_part_of_an_inventory(home: Home, kept: Path) -> None:
    (home.path / "1.parquet").write_bytes(TABLE[:5000])
    fields = {
        "sourceBucket": "b",
        "destinationBucket": "arn:aws:s3:::inventories",
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { required binary key; }",
        "files": [{"key": "data/1.parquet"}],
    }
    (home.path / "manifest.json").write_text(json.dumps(fields))
    check_refused(home, kept, ["--manifest", "manifest.json"], "1.parquet: damaged Parquet file")


def test_two_sizes_of_one_object_with_labels_from_elsewhere(home: Home, kept: Path) -> None:
    """The rows are those of the manifest, whatever stands between it and the index."""
    (home.path / "sizes.csv").write_bytes(BAD["sizes.csv"][0])
    options = ["--label-from", "parent", "--include", "*"]
    check_refused(home, kept, [*manifest(home, "sizes.csv"), *options], "sizes.csv:4: s3://b/t/a has 2 bytes")


def check_refused(home: Home, kept: Path, words: list[str], line: str) -> None:
    before = kept.read_bytes()
    done = home.run("index", "build", *SPARE, *words, str(kept))
    assert done.status in (2, 3), done.out
    assert len(done.error_lines) == 1
    assert line in done.err
    assert kept.read_bytes() == before
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("verify private/x.ossidx", 4),
        ("index build private/folder/ x.ossidx", 5),
        ("index build private/other.ossidx x.ossidx", 4),
        ("index build --manifest private/list --base-uri s3://b/ x.ossidx", 3),
        ("index build --objects private/list x.ossidx", 3),
        ("index build . private/x.ossidx", 4),
        ("doctor --cache-dir private/cache", 1),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a while")
def test_a_place_that_may_not_be_seen(
    line: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        Path(folder).chmod(0o777)
        Path("private").mkdir(mode=0o700)
        main(line.split(), environment={})  # loads what root alone may be able to load
        capsys.readouterr()
        with as_nobody():
            found = main(line.split(), environment={})
        monkeypatch.undo()
    said = capsys.readouterr()
    assert found == status, said.err
    assert "permission denied" in (said.err + said.out).lower()
    assert "cache: " in said.out or len(said.err.splitlines()) == 1
