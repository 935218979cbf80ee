"""Object lists, and the choice of the source."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from ossmount.config import SourceSettings
from ossmount.errors import EmptySource, ManifestError, SettingsError, SourceError
from ossmount.protocols import Source
from ossmount.sources import ManifestSource, ObjectListSource, PrefixSource, open_source
from tests.support.memory_store import MemoryStore, opener

A = MemoryStore("s3://a", {"x/1 one\tb": b"1", "x/2": b"22"})
B = MemoryStore("oss://b", {"y": b"333"})
HTTP = MemoryStore("https://h", {"d/p.jpg?v=1": b"4444"})
OPEN = opener(A, B, HTTP)


def paths(source: Source) -> list[bytes]:
    return [path for batch in source.batches(lambda _: None) for path in batch.paths]


def test_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "l").write_text("s3://a/x/1 one\tb\r\n\noss://b/y\nhttps://h/d/p.jpg?v=1")
    source = ObjectListSource(str(tmp_path / "l"), OPEN)
    entries = [entry for batch in source.batches(lambda _: None) for entry in batch.entries()]
    assert [entry.path for entry in entries] == [b"a/x/1 one\tb", b"b/y", b"h/d/p.jpg"]
    assert [entry.extent.length for entry in entries] == [1, 3, 4]
    assert source.description == f"objects {tmp_path}/l"


def test_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"s3://a/x/1 one\tb\ns3://a/x/2\n")))
    source = ObjectListSource("-", OPEN)
    assert paths(source) == [b"1 one\tb", b"2"]
    assert paths(source) == [b"1 one\tb", b"2"]
    assert source.description == "objects standard input"


def test_from_arguments() -> None:
    source = ObjectListSource(None, OPEN, uris=["s3://a/x/2", "oss://b/y"])
    assert paths(source) == [b"a/x/2", b"b/y"]
    assert source.description == "objects s3://a/x/2 and 1 more"


def test_errors_say_where(tmp_path: Path) -> None:
    (tmp_path / "l").write_text("s3://a/x/2\nx/2\n")
    with pytest.raises(ManifestError, match=r"l:2: 'x/2' is not a complete URI"):
        paths(ObjectListSource(str(tmp_path / "l"), OPEN))
    with pytest.raises(ManifestError, match="argument:2: s3://a/none does not exist"):
        paths(ObjectListSource(None, OPEN, uris=["s3://a/x/2", "s3://a/none"]))
    (tmp_path / "l").write_text("\n")
    with pytest.raises(EmptySource):
        paths(ObjectListSource(str(tmp_path / "l"), OPEN))


def test_signatures_are_not_shown(tmp_path: Path) -> None:
    signed = "https://h/d/p.jpg?v=1&sig=SECRET"
    (tmp_path / "l").write_text(f"{signed}\n")
    remote = ObjectListSource(signed, OPEN)
    described = [ObjectListSource(None, OPEN, uris=[signed]), remote, ManifestSource(signed, signed, OPEN)]
    assert [source.description for source in described] == [
        "objects https://h/d/p.jpg?...",
        "objects https://h/d/p.jpg?...",
        "manifest https://h/d/p.jpg?... below https://h/d/p.jpg?...",
    ]
    for source in (ObjectListSource(str(tmp_path / "l"), OPEN), remote):
        with pytest.raises(SourceError, match=r"https://h/d/p\.jpg\?\.\.\. does not exist"):
            paths(source)


def test_missing_may_be_left_out() -> None:
    settings = SourceSettings(on_missing="skip")
    source = open_source(None, settings, OPEN, uris=["s3://a/x/2", "s3://a/x/none"])
    assert paths(source) == [b"2"]


def test_choice() -> None:
    assert isinstance(open_source("s3://a/x", SourceSettings(), OPEN), PrefixSource)
    assert isinstance(open_source(None, SourceSettings(objects="l"), OPEN), ObjectListSource)
    assert isinstance(open_source(None, SourceSettings(manifest="m"), OPEN), ManifestSource)
    described = open_source("s3://a/x", SourceSettings(manifest="m"), OPEN).description
    assert described == "manifest m below s3://a/x"
    both = SourceSettings(manifest="m", base_uri="s3://a/x")
    assert open_source("s3://a/x", both, OPEN).description == described


@pytest.mark.parametrize(
    ("uri", "settings", "word"),
    [
        (None, SourceSettings(), "nothing to mount"),
        ("https://h/d/", SourceSettings(), "no listing"),
        ("gs://b", SourceSettings(), "unknown scheme"),
        (None, SourceSettings(manifest="m", objects="l"), "exclude each other"),
        ("s3://a", SourceSettings(objects="l"), "exclude each other"),
        ("s3://a", SourceSettings(base_uri="s3://a"), "--base-uri belongs"),
        ("s3://a", SourceSettings(columns="key=a"), "--columns belongs"),
        (None, SourceSettings(objects="l", manifest_parser="m:f"), "--manifest-parser belongs"),
        ("s3://a", SourceSettings(manifest="m", base_uri="s3://b"), "two bases"),
        (None, SourceSettings(manifest="m", base_uri="gs://b"), "unknown scheme"),
    ],
)
def test_contradictions(uri: str | None, settings: SourceSettings, word: str) -> None:
    with pytest.raises(SettingsError, match=word) as caught:
        open_source(uri, settings, OPEN)
    assert caught.value.remedy
