"""Inventories of S3 and OSS equal what LIST gives."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ossmount.config import SourceSettings
from ossmount.errors import EmptySource, ManifestError, SettingsError, SourceError, TwoSizes
from ossmount.model import Entry
from ossmount.sources import ManifestSource, open_source
from ossmount.uris import FILE_ROOT
from tests.support.memory_store import MemoryStore, opener

OBJECTS = {key: key.encode() for key in ("a b+c.jpg", "t/é%2E.jpg", "t/s3://x", "t/u/1\n", "t2/x", "u v")}
SCHEMA = ["Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag"]
OLD = ["src", "old", "v0", "false", "false", "1", "2020-01-01T00:00:00.000Z", "e"]
GONE = ["src", "gone", "v1", "true", "true", "", "2020-01-01T00:00:00.000Z", ""]


def csv_part(store: MemoryStore, keys: list[str]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(OLD)
    for info in map(store.head, keys):
        when = datetime.fromtimestamp(info.mtime_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        writer.writerow(["src", quote_plus(info.key), "v", "true", "false", info.size, when, info.etag])
    writer.writerow(GONE)
    return gzip.compress(out.getvalue().encode())


def parquet_part(store: MemoryStore, keys: list[str]) -> bytes:
    infos = [store.head(key) for key in keys]
    out = io.BytesIO()
    columns: dict[str, Any] = {
        "bucket": ["src"] * (len(infos) + 2),
        "key": ["old", *(info.key for info in infos), "gone"],
        "is_latest": [False, *(True for _ in infos), True],
        "is_delete_marker": [False, *(False for _ in infos), True],
        "size": pa.array([1, *(info.size for info in infos), None], pa.int64()),
        "last_modified_date": pa.array(
            [0, *(info.mtime_ns // 10**6 for info in infos), 0], pa.timestamp("ms", tz="UTC")
        ),
        "e_tag": ["e", *(info.etag for info in infos), None],
    }
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def publish(scheme: str, form: str) -> tuple[MemoryStore, MemoryStore]:
    """A source bucket and the bucket that holds its inventory in two parts."""
    source = MemoryStore(f"{scheme}://src", OBJECTS)
    target = MemoryStore(f"{scheme}://dst")
    keys = sorted(OBJECTS)
    for number, some in enumerate([keys[:2], keys[2:]]):
        part = csv_part(source, some) if form == "CSV" else parquet_part(source, some)
        target.put(f"p/src/id/data/{number}.part", part)
    manifest = {
        "sourceBucket": "src",
        "destinationBucket": "arn:aws:s3:::dst" if scheme == "s3" else "dst",
        "fileFormat": form,
        "fileSchema": ", ".join(SCHEMA) if form == "CSV" else "message s3.inventory { required binary key; }",
        "files": [{"key": f"p/src/id/data/{number}.part", "size": 1} for number in range(2)],
    }
    target.put("p/src/id/2026-01-01T00-00Z/manifest.json", json.dumps(manifest, indent=2).encode())
    source.requests.clear()
    return source, target


def read(place: str, *stores: MemoryStore, base: str | None = None) -> list[Entry]:
    source = open_source(None, SourceSettings(manifest=place, base_uri=base), opener(*stores))
    return [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]


def listed(store: MemoryStore, prefix: str = "") -> list[Entry]:
    source = open_source(f"{store.uri}/{prefix}", SourceSettings(), opener(store))
    return [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]


@pytest.mark.parametrize(("scheme", "form"), [("s3", "CSV"), ("s3", "Parquet"), ("oss", "CSV")])
def test_inventory_equals_list(scheme: str, form: str) -> None:
    source, target = publish(scheme, form)
    place = f"{scheme}://dst/p/src/id/2026-01-01T00-00Z/manifest.json"
    entries = read(place, source, target)
    below = read(place, source, target, base=f"{scheme}://src/t")
    assert read(place, source, target, base=f"{scheme}://src/t/") == below
    assert not source.requests
    assert entries == listed(source)
    assert below == listed(source, "t/")
    with pytest.raises(SettingsError, match="not of s3://other"):
        read(place, source, target, base="s3://other/")
    with pytest.raises(EmptySource):
        read(place, source, target, base=f"{scheme}://src/none/")


def test_a_local_copy(tmp_path: Path) -> None:
    source, target = publish("s3", "CSV")
    for page in list(target.list("")):
        for info in page.objects():
            path = tmp_path / info.key.removeprefix("p/src/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(target.get_range(target.id_of(info.key), 0, info.size))
    assert read(str(tmp_path / "id/2026-01-01T00-00Z/manifest.json"), source) == listed(source)


def local(tmp_path: Path, part: bytes, schema: str = "Bucket, Key, Size, ETag", form: str = "CSV") -> str:
    (tmp_path / "1.part").write_bytes(part)
    manifest = {
        "sourceBucket": "src",
        "destinationBucket": "arn:aws:s3:::dst",
        "fileFormat": form,
        "fileSchema": schema,
        "files": [{"key": "x/data/1.part"}],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return str(tmp_path / "manifest.json")


def test_without_sizes_they_are_asked_for(tmp_path: Path) -> None:
    source = MemoryStore("s3://src", OBJECTS)
    place = local(tmp_path, b"src,t2%2Fx\nsrc,a+b%2Bc.jpg\n", "Bucket, Key")
    assert {e.path: e.extent.object for e in read(place, source)} == {
        key.encode(): source.id_of(key) for key in ("t2/x", "a b+c.jpg")
    }
    below = read(place, source, base="s3://src/t2/")
    assert [(entry.path, entry.extent.object) for entry in below] == [(b"x", source.id_of("t2/x"))]


def test_parts_of_a_manifest_that_names_no_bucket_stand_in_its_own() -> None:
    source, target = publish("s3", "CSV")
    place = "p/src/id/2026-01-01T00-00Z/manifest.json"
    manifest = json.loads(target.get_range(target.id_of(place), 0, target.head(place).size))
    del manifest["destinationBucket"]
    target.put(place, json.dumps(manifest).encode())
    assert read(f"s3://dst/{place}", source, target) == listed(source)


@pytest.mark.parametrize(
    ("scheme", "destination", "base"),
    [
        ("s3", "arn:aws-cn:s3:::dst", None),
        ("oss", "dst", None),
        ("s3", "dst", "s3://src/"),
        ("oss", "arn:aws:s3:::dst", "oss://src/"),
    ],
)
def test_whose_a_local_copy_is(tmp_path: Path, scheme: str, destination: str, base: str | None) -> None:
    place = local(tmp_path, b"src,t2%2Fx,1,e\n")
    Path(place).write_text(Path(place).read_text().replace("arn:aws:s3:::dst", destination))
    (entry,) = read(place, MemoryStore(f"{scheme}://src"), base=base)
    assert (entry.path, entry.extent.object.store) == (b"t2/x", f"{scheme}://src")


def test_two_sizes_of_an_object_name_their_rows(tmp_path: Path) -> None:
    """Counted over all parts."""
    place = local(tmp_path, b"src,b,1,e\nsrc,a,1,e\n")
    (tmp_path / "2.part").write_bytes(b"src,c,1,e\nsrc,a,2,e\n")
    manifest = json.loads(Path(place).read_text())
    manifest["files"].append({"key": "x/data/2.part"})
    Path(place).write_text(json.dumps(manifest))
    source = open_source(None, SourceSettings(manifest=place), opener(MemoryStore("s3://src")))
    assert isinstance(source, ManifestSource)
    error = source.two_sizes(TwoSizes("s3://src", "a", (1, 2)))
    assert f"{place}:4: s3://src/a has 2 bytes here and 1 in {place}:2" in str(error)


def test_json_that_is_no_inventory_is_read_as_lines(tmp_path: Path) -> None:
    place = tmp_path / "list.jsonl"
    place.write_text('{"key": "s3://src/a", "size": 1, "etag": "e", "fileSchema": "x"}\n')
    (entry,) = read(str(place), MemoryStore("s3://src"))
    assert entry.path == b"a"


@pytest.mark.parametrize(
    ("part", "line", "word"),
    [
        (b"src,a,1,e\nsrc,b,-1,e\n", 2, "negative"),
        (b"src,a,1,e\nsrc,b,1\n", 2, "3 cells"),
        (b"src,a,1,e\nsrc,,1,e\n", 2, "path is empty"),
        (b"src,%FF,1,e\n", 1, "somewhere in this part"),
        (b'"src","a","1","e"\n"src","b","1","e\n', 2, "unexpected end of data"),
        (b'src,a,1,e\nsrc,b,1,"e\nsrc,c,1,e\nsrc,d,1,e\n', 2, "unexpected end of data"),
    ],
)
def test_errors_name_part_and_line(tmp_path: Path, part: bytes, line: int, word: str) -> None:
    with pytest.raises(ManifestError, match=word) as caught:
        read(local(tmp_path, part), MemoryStore("s3://src"))
    assert caught.value.place.endswith("1.part")
    assert caught.value.line == line


def test_a_part_without_rows_is_no_fault(tmp_path: Path) -> None:
    for empty in (b"", gzip.compress(b"")):
        place = local(tmp_path, empty)
        with pytest.raises(EmptySource):
            read(place, MemoryStore("s3://src"))
        (tmp_path / "2.part").write_bytes(b"src,a,1,e\n")
        manifest = json.loads(Path(place).read_text())
        manifest["files"].append({"key": "x/data/2.part"})
        Path(place).write_text(json.dumps(manifest))
        assert [entry.path for entry in read(place, MemoryStore("s3://src"))] == [b"a"]


def test_one_on_a_web_server_does_not_lead_to_local_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("one word\n")
    place = local(tmp_path, b"").replace(str(tmp_path), "https://h")
    manifest = (tmp_path / "manifest.json").read_text().replace("x/data/1.part", f"{tmp_path}/secret")
    server = MemoryStore("https://h", {"manifest.json": manifest.encode()})

    def open_store(uri: str) -> MemoryStore:
        if uri == FILE_ROOT:
            raise SettingsError("may not be opened here")
        return server

    source = open_source(None, SourceSettings(manifest=place), open_store)
    with pytest.raises(SettingsError) as caught:
        list(source.batches(lambda _: None))
    assert f"{tmp_path}/secret may not be opened here" in str(caught.value)
    assert "one word" not in str(caught.value)


def test_other_faults(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="ORC are not read"):
        read(local(tmp_path, b"", form="ORC"), MemoryStore("s3://src"))
    with pytest.raises(SourceError, match="names no Key"):
        read(local(tmp_path, b"", "Bucket, Size"), MemoryStore("s3://src"))
    with pytest.raises(SourceError, match="damaged Parquet"):
        read(local(tmp_path, b"PAR1xxxx", form="Parquet"), MemoryStore("s3://src"))
    place = local(tmp_path, b"")
    (tmp_path / "1.part").unlink()
    with pytest.raises(SourceError, match="No such file"):
        read(place, MemoryStore("s3://src"))
