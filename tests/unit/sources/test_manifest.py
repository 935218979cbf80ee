"""Manifests as sources: places, bases, what is asked for, and errors."""

from __future__ import annotations

import csv
import gzip
import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossmount.errors import EmptySource, ManifestError, SourceError, StoreUnavailable
from ossmount.model import Entry, Progress
from ossmount.sources import ManifestSource, parsing
from ossmount.uris import is_uri
from tests.support.memory_store import MemoryStore, fail_first, opener

OBJECTS = {"img/a b.jpg": b"1", "img/c/d.jpg": b"22", "img/c/e.jpg": b"333"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("s3://b", OBJECTS)


def read(source: ManifestSource) -> list[Entry]:
    return [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]


def manifest(
    tmp_path: Path,
    data: str | bytes,
    store: MemoryStore,
    base: str | None = "s3://b/img",
    *,
    skip: bool = False,
) -> ManifestSource:
    path = tmp_path / "m.tsv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return ManifestSource(str(path), base, opener(store), skip_missing=skip)


def test_plain_with_labels(tmp_path: Path, store: MemoryStore) -> None:
    entries = read(manifest(tmp_path, "a b.jpg\tcat\nc/d.jpg\tdog\n", store))
    assert [(e.path, e.label) for e in entries] == [(b"a b.jpg", "cat"), (b"c/d.jpg", "dog")]
    assert [e.extent.object for e in entries] == [store.id_of("img/a b.jpg"), store.id_of("img/c/d.jpg")]
    assert entries[0].mtime_ns == store.head("img/a b.jpg").mtime_ns


def test_complete_uris_beside_relative_paths(tmp_path: Path, store: MemoryStore) -> None:
    other = MemoryStore("oss://o", {"x/f": b""})
    path = tmp_path / "m"
    path.write_text("s3://b/img/c/d.jpg\nc/e.jpg\noss://o/x/f\n")
    entries = read(ManifestSource(str(path), "s3://b/img/", opener(store, other)))
    assert [e.path for e in entries] == [b"c/d.jpg", b"c/e.jpg", b"o/x/f"]


def test_without_a_base_the_common_directory_goes(tmp_path: Path, store: MemoryStore) -> None:
    entries = read(manifest(tmp_path, "s3://b/img/c/d.jpg\tx\ns3://b/img/a b.jpg\n", store, None))
    assert [(e.path, e.label) for e in entries] == [(b"c/d.jpg", "x"), (b"a b.jpg", None)]


@pytest.mark.parametrize("compress", [False, True])
def test_manifest_in_a_bucket(store: MemoryStore, compress: bool) -> None:
    text = b"c/d.jpg\tcat\n"
    store.put("lists/m.tsv", gzip.compress(text) if compress else text)
    source = ManifestSource("s3://b/lists/m.tsv", "s3://b/img", opener(store))
    assert [e.label for e in read(source)] == ["cat"]
    assert [e.label for e in read(source)] == ["cat"]
    assert store.requests["GET"] == 1
    assert source.description == "manifest s3://b/lists/m.tsv below s3://b/img"


def test_table_with_sizes_and_etags_makes_no_request(tmp_path: Path) -> None:
    store = MemoryStore("s3://b", fault=fail_first(10**6, AssertionError("a request was made")))
    text = "key,size,etag,label,mtime\nx/a,5,e1,cat,10\nx/b,0,e2,,\n"
    first, second = read(manifest(tmp_path, text, store))
    assert (first.path, first.label, first.mtime_ns) == (b"x/a", "cat", 10 * 10**9)
    assert first.extent.object == ("s3://b", "img/x/a", "e1", 5)
    assert (second.extent.length, second.label, second.mtime_ns) == (0, None, 0)


def test_only_what_is_unknown_is_asked_for(tmp_path: Path, store: MemoryStore) -> None:
    text = "key\tsize\tetag\tmtime\ngone\t5\te1\t\nc/d.jpg\t\t\t3\nc/e.jpg\t99\t\t\n"
    entries = read(manifest(tmp_path, text, store))
    assert sorted(store.log) == [("HEAD", "img/c/d.jpg"), ("HEAD", "img/c/e.jpg")]
    assert [e.extent.length for e in entries] == [5, 2, 3]
    assert entries[1].mtime_ns == 3 * 10**9
    assert entries[2].extent.object == store.id_of("img/c/e.jpg")


def test_progress_of_sizes_has_a_total(tmp_path: Path, store: MemoryStore) -> None:
    steps: list[Progress] = []
    list(manifest(tmp_path, "c/d.jpg\nc/e.jpg\n", store).batches(steps.append))
    assert Progress("sizes", 2, 2, "objects") in steps
    assert steps[-1] == Progress("reading", 2, None, "objects")


def test_missing_objects_name_the_line(tmp_path: Path, store: MemoryStore) -> None:
    with pytest.raises(ManifestError, match="s3://b/img/no1 does not exist, one of 2 missing") as caught:
        read(manifest(tmp_path, "\nc/d.jpg x\n\nno1 x\nno2 x\n", store))
    assert caught.value.line == 4
    assert "double quotes" in caught.value.remedy
    assert "--on-missing skip" in caught.value.remedy


@pytest.mark.parametrize("header", ["path\tsize", "path,label", "filename"])
def test_a_header_that_is_taken_for_a_path_is_told(tmp_path: Path, store: MemoryStore, header: str) -> None:
    with pytest.raises(ManifestError, match=r"m.tsv:1: .* does not exist; if .* --columns key=path;"):
        read(manifest(tmp_path, f"{header}\nc/d.jpg\n", store))
    with pytest.raises(ManifestError) as caught:
        read(manifest(tmp_path, f"c/d.jpg\n{header}\n", store))
    assert "--columns" not in caught.value.remedy


def test_missing_objects_may_be_left_out(
    tmp_path: Path, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    entries = read(manifest(tmp_path, "c/d.jpg x\nno1 x\nc/e.jpg y\n", store, skip=True))
    assert [(e.path, e.label) for e in entries] == [(b"c/d.jpg", "x"), (b"c/e.jpg", "y")]
    assert "1 objects do not exist" in caplog.text
    with pytest.raises(EmptySource):
        read(manifest(tmp_path, "no1 x\n", store, skip=True))


@pytest.mark.parametrize("text", ["", "\n \n", "key,size\n"])
def test_nothing_in_it(tmp_path: Path, store: MemoryStore, text: str) -> None:
    with pytest.raises(EmptySource, match=r"m\.tsv"):
        read(manifest(tmp_path, text, store))


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("key,size\n" + "a,1\n" * 50_000 + "b,-1\n", 50_002, "negative"),
        ("key,size\n" + "a,1\n" * 50_000 + "b,x\n", 50_002, "not a number"),
        ("key,size\n" + "a,1\n" * 50_000 + "b\n", 50_002, "1 cells"),
        ("key,label\na,x\nb,y/z\n", 3, "'/'"),
        ('key,label\n"a\nb",x\n,y\n', 4, "empty"),
        (b"key,label\na,x\nb\xff,y\n", 3, "UTF-8"),
        (b"key,label\na,x\nb\0,y\n", 3, "NUL"),
        ("key,mtime\na,1\nb,noon\n", 3, "ISO 8601"),
        ('key,size\na,1\n"b,2\nc,3\n', 3, "end of data"),
        ("key,size\na,99999999999999999999\n", 2, "too large"),
        ('key,size,label\na,1,"dog\nb,2,cat\nc,3,cat\n', 2, "end of data"),
        ('key,size,label\na,1,"dog\nb,2,"cat\n', 2, "expected after"),
        ('key\n"a"b\n', 2, "expected after"),
        ("key\na\rb\n", 2, "new-line"),
        ("key,size\na,0x10\n", 2, "not a number"),
        ("key,size\na,1_0\n", 2, "not a number"),
        ("key,mtime\na,99999999999999999999\n", 2, "years 1 to 9999"),
        ("key,mtime\na," + "9" * 5000 + "\n", 2, "neither seconds"),
    ],
)
def test_errors_of_tables_name_the_line(
    tmp_path: Path, store: MemoryStore, text: str | bytes, line: int, word: str
) -> None:
    with pytest.raises(ManifestError, match=word) as caught:
        read(manifest(tmp_path, text, store))
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "base", "line", "word"),
    [
        ("s3://b/a\nb\n", None, 2, "not a complete URI"),
        ("s3://b/a\ngs://b/c\n", None, 2, "unknown scheme"),
        ("a\ns3://b\n", "s3://b", 2, "names no object"),
        ("a\ns3://?/x\n", "s3://b", 2, "no valid bucket"),
        ("a\n" + "b/" * 5000 + "c\n", "s3://b", 2, "has 10001 bytes, the limit is 8192"),
        ("s3://b/a\ns3://b/" + "c/" * 5000 + "\n", None, 2, "bytes, the limit is 8192"),
    ],
)
def test_keys_that_lead_nowhere(
    tmp_path: Path, store: MemoryStore, text: str, base: str | None, line: int, word: str
) -> None:
    with pytest.raises(ManifestError, match=word) as caught:
        read(manifest(tmp_path, text, store, base))
    assert caught.value.line == line


def test_a_line_without_end(tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "LONGEST_LINE", 1 << 20)
    with pytest.raises(ManifestError, match=":2: the line has more than 1 MiB"):
        read(manifest(tmp_path, "a\n" + "b" * (1 << 21), store))


def test_a_key_that_only_looks_like_a_uri(tmp_path: Path) -> None:
    store = MemoryStore("s3://b", {"img/gs://x": b"1"})
    assert [e.path for e in read(manifest(tmp_path, "gs://x\n", store))] == [b"gs://x"]


def test_unreadable_places(tmp_path: Path, store: MemoryStore) -> None:
    for place, word in [
        (str(tmp_path / "none"), "No such file"),
        (str(tmp_path), "Is a directory"),
        ("s3://b/none", "does not exist"),
        ("s3://nobucket/none", "cannot be read"),
    ]:
        with pytest.raises(SourceError, match=word) as caught:
            read(ManifestSource(place, "s3://b", opener(store)))
        assert place in caught.value.message


def test_damaged_gzip(tmp_path: Path, store: MemoryStore) -> None:
    data = gzip.compress(os.urandom(4000).hex().encode() + b"\n")
    with pytest.raises(SourceError, match="damaged gzip"):
        read(manifest(tmp_path, data[: len(data) // 2], store))
    table = gzip.compress(b"key,size\n" + b"".join(b"%d,%d\n" % (i, i) for i in range(90_000)))
    with pytest.raises(SourceError, match="damaged gzip"):
        read(manifest(tmp_path, table[:-5000], store))


def test_errors_of_the_store_pass(tmp_path: Path) -> None:
    store = MemoryStore("s3://b", OBJECTS, fault=fail_first(1, StoreUnavailable("down")))
    with pytest.raises(StoreUnavailable, match="down"):
        read(manifest(tmp_path, "c/d.jpg\n", store))


CELL = st.text(
    alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6
).filter(lambda text: not is_uri(text))
LABEL = st.text(alphabet=' ab",\té\n', min_size=1, max_size=4).filter(lambda text: not text.isspace())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(st.tuples(CELL, st.integers(0, 2**62), LABEL | st.just("")), min_size=1), st.sampled_from(",\t")
)
def test_whatever_csv_writes_is_read(
    tmp_path: Path, table: list[tuple[str, int, str]], delimiter: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerows([("key", "size", "label", "etag"), *((*row, "e") for row in table)])
    store = MemoryStore("s3://b")
    entries = read(manifest(tmp_path, text.getvalue(), store, "s3://b"))
    assert [(e.extent.object.key, e.extent.length, e.label or "") for e in entries] == table
    assert not store.requests
