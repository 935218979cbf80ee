"""Tables of other people: mapped columns, JSON lines, Parquet, Hugging Face metadata, Python hooks."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ossmount.config import SourceSettings
from ossmount.errors import EmptySource, ManifestError, SettingsError, SourceError
from ossmount.model import Entry
from ossmount.sources import listed, open_source, readers
from ossmount.sources.arrow_csv import read_table
from ossmount.sources.columns import parse_columns
from ossmount.sources.parsing import Table
from tests.support.memory_store import MemoryStore, opener

STORE = MemoryStore("s3://b", {"d/a": b"1", "d/b": b"22"})


def read(tmp_path: Path, data: bytes, columns: str | None = None, hook: str | None = None) -> list[Entry]:
    (tmp_path / "table").write_bytes(data)
    settings = SourceSettings(
        manifest=str(tmp_path / "table"), base_uri="s3://b/d", columns=columns, manifest_parser=hook
    )
    source = open_source(None, settings, opener(STORE))
    return [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]


def brief(entries: list[Entry]) -> list[tuple[str, str | None, int, str]]:
    return [(e.path.decode(), e.label, e.extent.object.size, e.extent.object.etag) for e in entries]


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


FULL = [("a", "cat", 5, "e1"), ("b", None, 6, "e2")]
MAP = "key=path,label=category,size=bytes,etag=tag"


def test_csv_with_mapped_columns(tmp_path: Path) -> None:
    text = b"id,path,category,bytes,tag\n1,a,cat,5,e1\n2,b,,6,e2\n"
    assert brief(read(tmp_path, text, MAP)) == FULL
    with pytest.raises(ManifestError, match="table:3: the size 'x'"):
        read(tmp_path, text.replace(b"6", b"x"), MAP)


def test_a_mapping_counts_more_than_a_column_s_name(tmp_path: Path) -> None:
    assert brief(read(tmp_path, b"label,size,etag\na,5,e1\n", "key=label")) == [("a", None, 5, "e1")]


@pytest.mark.parametrize("packed", [False, True])
def test_arrow_reads_without_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    """Its thread reads on after an error, and one that then wants the interpreter aborts the process."""

    def read_by_python(*_: object) -> bytes:
        raise AssertionError("read through the interpreter")

    text = b"a\nb\n"
    path = tmp_path / "table"
    path.write_bytes(gzip.compress(text[:2]) + gzip.compress(text[2:]) if packed else text)
    monkeypatch.setattr(gzip.GzipFile, "read", read_by_python)
    with path.open("rb", buffering=0) as raw, gzip.GzipFile(fileobj=raw) as unpacked:
        monkeypatch.setattr(raw, "read", read_by_python, raising=False)
        stream = cast(BinaryIO, unpacked if packed else raw)
        (rows,) = read_table(stream, Table(("key",), ",", header=False))
    assert rows.keys == ["a", "b"]


def test_json_lines(tmp_path: Path) -> None:
    text = b'{"path": "a", "category": "cat", "bytes": 5, "tag": "e1", "box": [1]}\n\n'
    text += b'{"path": "b", "category": null, "bytes": 6, "tag": "e2"}\n'
    assert brief(read(tmp_path, text, MAP)) == FULL


def test_a_path_of_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    row = rb'{"key": "\udcff", "size": 5, "etag": "e1"}'
    assert [entry.path for entry in read(tmp_path, row)] == [b"\xff"]


def test_parquet(tmp_path: Path) -> None:
    data = parquet(path=["a", "b"], category=["cat", None], bytes=[5, 6], tag=["e1", "e2"], other=[1, 2])
    assert brief(read(tmp_path, data, MAP)) == FULL


def test_parquet_with_times_and_numbered_labels(tmp_path: Path) -> None:
    when = pa.array([1_500, None], pa.timestamp("ms", tz="UTC"))
    data = parquet(key=["a", "b"], label=[3, None], size=[5, 6], etag=["e1", "e2"], mtime=when)
    entries = read(tmp_path, data)
    assert [(e.label, e.mtime_ns) for e in entries] == [("3", 1_500_000_000), (None, 0)]


@pytest.mark.parametrize(
    "data",
    [
        b'{"file_name": "a", "label": "cat"}\n{"file_name": "b", "text": "x"}\n',
        b"file_name,label,text\na,cat,x\nb,,y\n",
        parquet(file_name=["a", "b"], label=["cat", None]),
    ],
)
def test_hugging_face_metadata(tmp_path: Path, data: bytes) -> None:
    assert [(path, label) for path, label, *_ in brief(read(tmp_path, data))] == [("a", "cat"), ("b", None)]


def test_a_plain_manifest_may_begin_with_a_brace(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"table:1: s3://b/d/\{x does not exist"):
        read(tmp_path, b"{x\tcat\n")


@pytest.mark.parametrize(
    ("data", "columns", "line", "word"),
    [
        (b'{"key": "a"}\n{"key": "b"\n', None, 2, "delimiter"),
        (b'{"key": "a"}\n[1]\n', None, 2, "no JSON object"),
        (b'{"key": "a"}\n{"name": "b"}\n', None, 2, "no member 'key'"),
        (b'{"key": "a", "size": true}\n', None, 1, "neither text nor a number"),
        (b'{"key": "a", "size": -1}\n', None, 1, "negative"),
        (b'{"key": "a"}\n{"key": ' + b"[" * 200_000, None, 2, "nested too deeply"),
        (rb'{"key": "a\ud800"}', None, 1, "half of a character"),
        (rb'{"key": "a", "label": "\udfff"}', None, 1, "half of a character"),
        (rb'{"key": "a", "etag": "\ud800"}', None, 1, "half of a character"),
        (b"a,b\n1,2\n", "key=c", 1, "no column 'c'"),
        (b"path,b\n1,2\n", "key=path,label=path", 1, "'path' would be key and label"),
        (b"key,b\n1,2\n", "label=key", 1, "'key' would be key and label"),
        (parquet(key=["a", "b"], size=[1, -1]), None, 2, "negative"),
        (parquet(key=["a", "b"], label=["x", "y/z"]), None, 2, "'/'"),
        (parquet(key=["a", None]), None, 2, "path is empty"),
        (parquet(name=["a"]), None, 1, "no column 'file_name'"),
        (parquet(key=["a"], size=["big"]), None, 1, "cannot be read as size"),
        (parquet(key=["a"], size=["0x10"]), None, 1, "cannot be read as size"),
        (parquet(key=["a", "bb"], x=["", ""]).replace(b"bb", b"\xff\xff"), None, 2, "can't decode byte"),
        (parquet(key=["a"], size=[True]), None, 1, "cannot be read as size"),
        (parquet(key=["a", ""], mtime=pa.array([1, 2], pa.timestamp("ns"))), None, 2, "path is empty"),
        (parquet(key=["a", ""], mtime=pa.array([1, 2], pa.timestamp("us", "No/Where"))), None, 2, "empty"),
        (parquet(key=["a"], mtime=pa.array([1 << 62], pa.timestamp("us"))), None, 1, "out of bounds"),
    ],
)
def test_errors_name_the_row(tmp_path: Path, data: bytes, columns: str | None, line: int, word: str) -> None:
    with pytest.raises(ManifestError, match=word) as caught:
        read(tmp_path, data, columns)
    assert caught.value.line == line
    assert caught.value.remedy


def test_parquet_with_a_column_whose_name_is_no_text(tmp_path: Path) -> None:
    data = parquet(key=["a"], size=[1], other=["x"]).replace(b"other", b"oth\xffr")
    with pytest.raises(SourceError, match="damaged Parquet"):
        read(tmp_path, data)


def test_truncated_parquet(tmp_path: Path) -> None:
    data = parquet(key=[str(i) for i in range(1000)])
    with pytest.raises(SourceError, match="damaged Parquet"):
        read(tmp_path, data[: len(data) // 2])


def test_python_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_hooks.py").write_text(
        "def parse(stream):\n"
        "    for line in stream:\n"
        "        name, label = line.decode().split('=')\n"
        "        yield 's3://b/d/' + name, int(label)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = read(tmp_path, b"a=1\nb=2\n", hook="my_hooks:parse")
    assert [(path, label) for path, label, *_ in brief(entries)] == [("a", "1"), ("b", "2")]
    with pytest.raises(ManifestError, match="table:2: the manifest parser failed: ValueError"):
        read(tmp_path, b"a=1\nb=x\n", hook="my_hooks:parse")
    for name in ("my_hooks", "my_hooks:none", "no_such_module_x:f"):
        with pytest.raises(SettingsError, match="--manifest-parser"):
            read(tmp_path, b"", hook=name)


def test_mapping() -> None:
    assert parse_columns("key=a b, size = n") == {"key": "a b", "size": "n"}
    for bad in ("", "key", "key=", "name=x", "key=a,key=b"):
        with pytest.raises(SettingsError, match="--columns"):
            parse_columns(bad)


def test_empty_parquet(tmp_path: Path) -> None:
    with pytest.raises(EmptySource):
        read(tmp_path, parquet(key=pa.array([], pa.string()), size=pa.array([], pa.int64())))


def test_several_windows_keep_order_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "WINDOW_ROWS", 2)
    monkeypatch.setattr(readers, "BATCH_ROWS", 3)
    store = MemoryStore("s3://b", {f"d/{i}": b"x" * i for i in range(20)})
    order = [7, 3, 19, 0, 11, 5, 2, 13]
    path = tmp_path / "m"
    path.write_text("".join(f"{i}\tx\n" for i in order))
    settings = SourceSettings(manifest=str(path), base_uri="s3://b/d")
    source = open_source(None, settings, opener(store))
    entries = [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]
    assert [entry.extent.length for entry in entries] == order
    store.delete("d/13")
    with pytest.raises(ManifestError, match="m:8: s3://b/d/13 does not exist"):
        list(source.batches(lambda _: None))
