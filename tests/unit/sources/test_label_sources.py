"""Labels from directories, sidecars and tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from ossmount.config import SourceSettings
from ossmount.errors import AccessDenied, OssmountError, SettingsError, SourceError
from ossmount.sources import open_source
from ossmount.sources.label_sources import MAX_SIDECAR, sidecar_key
from ossmount.uris import FILE_ROOT
from tests.support.memory_store import MemoryStore, opener


def labels(store: MemoryStore, label_from: str, prefix: str = "p") -> dict[str, str | None]:
    settings = SourceSettings(label_from=label_from)
    source = open_source(f"{store.uri}/{prefix}/", settings, opener(store))
    found = [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]
    return {entry.path.decode(): entry.label for entry in found}


def test_the_parent_directory() -> None:
    store = MemoryStore("s3://b", dict.fromkeys(["p/x", "p/cat/1", "p/a/dog/2", "p/a/dog/", "p/a//3"], b""))
    assert labels(store, "parent") == {
        "x": None,
        "cat/1": "cat",
        "a/dog/2": "dog",
        "a/dog/": "dog",
        "a//3": None,
    }


def with_sidecars(**contents: object) -> MemoryStore:
    objects = {f"p/images/{name}.png": b"png" for name in [*contents, "alone"]}
    objects |= {f"p/labels/{name}.json": json.dumps(text).encode() for name, text in contents.items()}
    return MemoryStore("s3://b", objects, page_size=3)


def test_sidecars() -> None:
    store = with_sidecars(a={"c": {"name": "cat"}}, b={"c": {"name": 7}}, d={"c": None}, e={})
    found = labels(store, "sidecar:labels/{stem}.json:c.name")
    images = {path: label for path, label in found.items() if path.startswith("images/")}
    assert images == {
        "images/a.png": "cat",
        "images/alone.png": None,
        "images/b.png": "7",
        "images/d.png": None,
        "images/e.png": None,
    }
    assert found["labels/a.json"] == "cat"


def test_sidecars_of_objects_in_several_buckets() -> None:
    stores = [
        MemoryStore(f"s3://{name}", {"x/1.png": b"", "x/1.json": json.dumps({"c": name}).encode()})
        for name in ("a", "b")
    ]
    settings = SourceSettings(label_from="sidecar:{dir}/{stem}.json:c")
    source = open_source(None, settings, opener(*stores), uris=["s3://a/x/1.png", "s3://b/x/1.png"])
    found = [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]
    assert {entry.path: entry.label for entry in found} == {b"a/x/1.png": "a", b"b/x/1.png": "b"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "s3://b/p/x.json: Expecting property name"),
        (b'{"c": [1]}', r"the label is \[1\], neither"),
        (b'{"c": true}', "the label is true, neither"),
        (b'{"c": "a/b"}', "contains '/'"),
        (b'{"c": ""}', "the label is empty"),
        (rb'{"c": "\ud800"}', r"x\.json: '\\ud800' is half of a character"),
        (b"\xff", "s3://b/p/x.json: "),
        (b"[" * 200_000, "s3://b/p/x.json: values are nested too deeply"),
        (b" " * (MAX_SIDECAR + 1), "no sidecar is that large"),
        (b"{}", "no file has a sidecar with a label: the last was looked for at s3://b/p/x.json"),
    ],
)
def test_bad_sidecars_are_named(content: bytes, reason: str) -> None:
    store = MemoryStore("s3://b", {"p/x.png": b"", "p/x.json": content})
    with pytest.raises(SourceError, match=reason):
        labels(store, "sidecar:{stem}.json:c")


def test_a_sidecar_that_may_not_be_read() -> None:
    def fault(verb: str, key: str) -> None:
        if verb == "GET":
            raise AccessDenied(f"{key} is forbidden", "ask")

    store = MemoryStore("s3://b", {"p/x.png": b"", "p/x.json": b"{}"}, fault=fault)
    with pytest.raises(SourceError, match=r"a sidecar cannot be read: p/x\.json is forbidden"):
        labels(store, "sidecar:{stem}.json:c")


@pytest.mark.parametrize(
    ("pattern", "path", "key", "sidecar"),
    [
        ("labels/{stem}.json", "images/1.png", "p/images/1.png", "p/labels/1.json"),
        ("{dir}/{stem}.json", "a/b/1.tar.gz", "a/b/1.tar.gz", "a/b/1.tar.json"),
        ("{dir}/{stem}.json", "1.png", "p/1.png", "p/1.json"),
        ("{up}/labels/{name}.json", "t/images/1", "p/t/images/1", "p/t/labels/1.json"),
        ("{up}/labels/{name}.json", "images/.x", "images/.x", "labels/.x.json"),
        ("/l/{stem}", "{name}.png", "{name}.png", "l/{name}"),
        ("{dir}/{stem}.json", "a/x/1.jpg", "x/1.jpg", "x/1.json"),
        ("{stem}.json", "a/1.jpg", "1.jpg", "1.json"),
        ("{up}/labels/{stem}.json", "a/x/y/1.jpg", "p/x/y/1.jpg", "p/x/labels/1.json"),
    ],
)
def test_where_a_sidecar_stands(pattern: str, path: str, key: str, sidecar: str) -> None:
    assert sidecar_key(pattern, path.encode(), key) == sidecar


FILES = MemoryStore("s3://b", dict.fromkeys(["p/a/1.jpg", "p/b/2.jpg", "p/b/3.jpg"], b""))
JOINED = {"a/1.jpg": "cat", "b/2.jpg": "dog", "b/3.jpg": None}


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("paths.csv", b"key,label\na/1.jpg,cat\n./b/2.jpg,dog\nz,cat\n", ""),
        ("names.tsv", b"file_name\tlabel\n1.jpg\tcat\n2.jpg\tdog\n", ""),
        ("own.csv", b"id,class\n1.jpg,cat\n2.jpg,dog\n2.jpg,dog\n", "#key=id,label=class"),
        ("plain", b"1.jpg cat\n2.jpg dog\n", ""),
        (
            "lines.jsonl.gz",
            gzip.compress(
                b'{"file_name": "1.jpg", "label": "cat"}\n{"file_name": "2.jpg", "label": "dog"}\n',
                mtime=0,  # a test's name holds its parameters, and every process must give it the same
            ),
            "",
        ),
    ],
)
def test_tables(tmp_path: Path, name: str, text: bytes, columns: str) -> None:
    (tmp_path / name).write_bytes(text)
    assert labels(FILES, f"table:{tmp_path / name}{columns}") == JOINED


def test_a_table_in_parquet_in_the_bucket(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"file": ["1.jpg", "2.jpg"], "y": [3, 4]}), tmp_path / "t")
    store = MemoryStore("s3://b", {"p/1.jpg": b"", "p/2.jpg": b"", "t": (tmp_path / "t").read_bytes()})
    assert labels(store, "table:s3://b/t#key=file,label=y") == {"1.jpg": "3", "2.jpg": "4"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "key,label\n1.jpg,cat\n2.jpg,dog\n1.jpg,dog\n",
            r"t\.csv:4: '1\.jpg' has two labels, 'cat' and 'dog'",
        ),
        ("key,size\n1.jpg,3\n", "it has no column of labels"),
        (
            "key,label\nimg/1.jpg,cat\n",
            r"none of the files: its keys are like 'img/1\.jpg', the files like 'a/",
        ),
        ("key,label\n1.jpg,a/b\n", "contains '/'"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(OssmountError, match=reason):
        labels(FILES, f"table:{tmp_path / 't.csv'}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no label source"),
        ("directory", "is no label source"),
        ("table:", "is no label source"),
        ("sidecar:labels/{stem}.json", "has no pattern"),
        ("sidecar:labels/x.json:c", "has no pattern"),
        ("sidecar:{stem}.json:", "is no JMESPath"),
        ("sidecar:{stem}.json:c[", "is no JMESPath"),
        ("table:x.csv#class", "is not one of"),
    ],
)
def test_bad_options(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        labels(FILES, text)


def test_a_table_is_no_way_to_local_files_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("one word\n")
    store = MemoryStore("s3://b", {"p/x": b""})

    def open_store(uri: str) -> MemoryStore:
        if uri == FILE_ROOT:
            raise SettingsError("may not be opened here")
        return store

    for place in (tmp_path / "secret", f"file://{tmp_path}/secret"):
        source = open_source("s3://b/p/", SourceSettings(label_from=f"table:{place}"), open_store)
        with pytest.raises(SettingsError) as caught:
            list(source.batches(lambda _: None))
        assert "may not be opened here" in str(caught.value)
        assert "one word" not in str(caught.value)


def test_a_label_of_the_source_stays_where_none_is_found(tmp_path: Path) -> None:
    manifest = tmp_path / "m.tsv"
    manifest.write_text("s3://b/p/a/1.jpg\town\ns3://b/p/b/2.jpg\town\n")
    (tmp_path / "t.csv").write_text("key,label\n1.jpg,cat\n")
    settings = SourceSettings(manifest=str(manifest), label_from=f"table:{tmp_path / 't.csv'}")
    source = open_source(None, settings, opener(FILES))
    found = [entry.label for batch in source.batches(lambda _: None) for entry in batch.entries()]
    assert found == ["cat", "own"]
