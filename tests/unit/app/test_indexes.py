"""Which index a mount takes: what is kept apart, what is shared, and what it says."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ossmount.app import generations
from ossmount.app.cache_place import cache_directory
from ossmount.app.indexes import _kept_path, build_index, choose_index, describe_age
from ossmount.app.inspection import build_index as build_at
from ossmount.app.inspection import index_ls
from ossmount.app.mounting import anchored
from ossmount.app.standard_input import standard_input_as_file
from ossmount.config import CacheSettings, Settings, compose
from ossmount.errors import (
    CacheError,
    EmptySource,
    IndexFileError,
    NameRefused,
    SettingsError,
    SourceError,
    StoreUnavailable,
)
from ossmount.model import IndexInfo, Progress
from tests.servers.http import RangeServer, leading_to


def no_report(progress: Progress) -> None:
    pass


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "file").write_bytes(b"12345")
    return f"file://{folder}/"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return compose({"cache_dir": str(tmp_path / "cache")})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (86400 * 3 + 5, "3 d")],
)
def test_age_in_its_largest_unit(seconds: float, text: str) -> None:
    assert describe_age(seconds) == text


def test_built_once_then_kept(source: str, settings: Settings) -> None:
    first = choose_index([source], settings, no_report)
    second = choose_index([source], settings, no_report)
    assert (first.built, second.built) == (True, False)
    assert first.path == second.path
    assert first.describe() == f"index {first.path} (1 files, built now)"
    assert second.describe() == f"index {first.path} (1 files, 0 s old)"


def test_rebuild(source: str, settings: Settings) -> None:
    choose_index([source], settings, no_report)
    again = replace(settings, index=replace(settings.index, rebuild=True))
    assert choose_index([source], again, no_report).built


def test_an_index_that_cannot_be_looked_at_is_not_refreshed(
    source: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else may have replaced it meanwhile."""

    def fail(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    path = choose_index([source], settings, no_report).path
    before = path.read_bytes()
    with monkeypatch.context() as unreadable:
        unreadable.setattr(generations, "is_still", fail)
        with pytest.raises(IndexFileError, match="is being refreshed"):
            generations.refresh_index(path, settings, no_report)
    assert path.read_bytes() == before
    assert not generations.refresh_index(path, settings, no_report).is_new, "the lock was given back"


@pytest.mark.parametrize("other", [{"on_bad_key": "skip"}, {"endpoint_url": "http://elsewhere"}])
def test_what_shapes_the_tree_keeps_indexes_apart(
    other: dict[str, str], source: str, settings: Settings, tmp_path: Path
) -> None:
    first = choose_index([source], settings, no_report)
    second = choose_index([source], compose({"cache_dir": str(tmp_path / "cache")}, other), no_report)
    assert second.built
    assert first.path != second.path


def test_no_two_trees_share_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a mount would show, without a word, what another one asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_text("key,class\n1,x\n")
    (tmp_path / "other").write_text("key,class\n2,x\n")
    tables = [{name: place} for name in ("manifest", "objects") for place in ("list", "other", "s3://b/list")]
    others = [
        {}, {"base_uri": "a/"}, {"base_uri": "s3://b/"}, {"columns": "label=class"},
        {"manifest_parser": "m:f"}, {"label_from": "parent"}, {"label_from": "table:list"},
        {"label_from": "table:other"},
        {"label_from": "table:list#key=key,label=class"}, {"on_missing": "skip"}, {"layout": "labels"},
        {"unlabelled": "skip"}, {"on_bad_key": "skip"}, {"endpoint_url": "http://elsewhere"},
    ]  # fmt: skip
    asked = [compose({"cache_dir": "cache"}, dict(told)) for told in [*tables, *others]]

    def places() -> set[Path]:
        return {_kept_path(uris, settings) for settings in asked for uris in ([], ["s3://b/x/"], ["x"])}

    before = places()
    assert len(before) == 3 * len(asked)
    os.utime(tmp_path / "list", (1, 1))
    assert len(places() - before) == 3 * 4, "as manifest, as objects, and in two tables of labels"


@pytest.mark.parametrize(
    ("uris", "told"),
    [
        (["data"], {}),
        (["data/"], {}),
        ([], {"manifest": "list", "base_uri": "data/"}),
        (["data"], {"label_from": "table:list#key=file,label=class"}),
    ],
)
def test_a_relative_path_means_another_tree_in_another_directory(
    uris: list[str], told: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a job in one directory would be shown, and train on, the files of another."""
    settings = compose({"cache_dir": str(tmp_path / "cache")}, told)
    for name in ("here", "there"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "1").write_text(name)
        (tmp_path / name / "data" / "2").write_text(name)
        (tmp_path / name / "list").write_text("file,class\n1,x\n" if "label_from" in told else "1 x\n")
        os.utime(tmp_path / name / "list", (1, 1))

    monkeypatch.chdir(tmp_path / "here")
    here = choose_index(uris, settings, no_report)
    again = choose_index(uris, settings, no_report)
    monkeypatch.chdir(tmp_path / "there")
    there = choose_index(uris, settings, no_report)

    assert (here.built, again.built, there.built) == (True, False, True)
    assert here.path != there.path


@pytest.mark.parametrize("other", [{"workers": 7}, {"memory_cache": 0}, {"readahead": "off"}])
def test_what_does_not_shape_it_shares_one(
    other: dict[str, object], source: str, settings: Settings, tmp_path: Path
) -> None:
    choose_index([source], settings, no_report)
    assert not choose_index([source], compose({"cache_dir": str(tmp_path / "cache")}, other), no_report).built


def test_a_failed_build_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptySource):
        choose_index([f"file://{tmp_path}/empty/"], settings, no_report)
    assert list((tmp_path / "cache" / "indexes").iterdir()) == []


PAGE = (
    b"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated><Contents><Key>%s</Key>"
    b"<LastModified>2024-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>3</Size></Contents>"
    b"<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
)


@pytest.mark.server
def test_a_listing_that_broke_off_does_not_go_on_at_another_endpoint(
    http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(_: RangeServer, path: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        if headers["host"].startswith("localhost"):
            return 200, PAGE % (b"false", b"there"), {}
        return (500, b"", {}) if "continuation-token" in path else (200, PAGE % (b"true", b"here"), {})

    def build(host: str) -> IndexInfo:
        store = replace(leading_to(http_ranges.url.replace("127.0.0.1", host)), retries=0)
        settings = replace(compose({}), store=store)
        return build_index(["s3://unit/"], tmp_path / "x.ossidx", settings, no_report)

    monkeypatch.setattr("tests.servers.http.respond", answer)
    with pytest.raises(StoreUnavailable):
        build("127.0.0.1")
    assert [path.suffix for path in tmp_path.iterdir()] == [".listing"]
    assert build("localhost").files == 1


@pytest.mark.server
def test_a_listing_that_no_other_try_would_use_is_removed(
    http_ranges: RangeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(_: RangeServer, path: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        return 200, PAGE % ((b"false", b"b") if "continuation-token" in path else (b"true", b"a//b")), {}

    monkeypatch.setattr("tests.servers.http.respond", answer)
    settings = replace(compose({"on_bad_key": "fail"}), store=leading_to(http_ranges.url))
    with pytest.raises(NameRefused):
        build_index(["s3://unit/"], tmp_path / "x.ossidx", settings, no_report)
    assert list(tmp_path.iterdir()) == []


def test_named_index_without_a_source(settings: Settings, tmp_path: Path) -> None:
    named = replace(settings, index=replace(settings.index, index=str(tmp_path / "missing")))
    with pytest.raises(SettingsError, match=r"no index at .*missing and no source"):
        choose_index([], named, no_report)


def test_the_directory_of_a_named_index_is_private_and_made(source: str, tmp_path: Path) -> None:
    named = compose({"cache_dir": str(tmp_path / "cache"), "index": str(tmp_path / "a" / "b" / "x.ossidx")})
    chosen = choose_index([source], named, no_report)
    assert (chosen.built, chosen.path.parent.stat().st_mode & 0o777) == (True, 0o700)
    below = replace(named, index=replace(named.index, index=str(chosen.path / "y.ossidx")))
    with pytest.raises(IndexFileError, match=r"cannot make the directory .*--cache-dir or --index"):
        choose_index([source], below, no_report)


def test_cache_directory_is_private_and_made(tmp_path: Path) -> None:
    made = cache_directory(CacheSettings(cache_dir=str(tmp_path / "a" / "b")))
    assert made.is_dir()
    assert made.stat().st_mode & 0o777 == 0o700


def test_cache_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"cannot make the cache directory .*--cache-dir"):
        cache_directory(CacheSettings(cache_dir=str(tmp_path / "file" / "cache")))


def test_paths_of_a_daemon_do_not_depend_on_its_directory(tmp_path: Path) -> None:
    given = compose({"cache_dir": "near", "log_file": "/var/log/o.log", "credentials_file": "../keys.json"})
    settled = anchored(given)
    assert settled.cache.cache_dir == f"{os.getcwd()}/near"  # noqa: PTH109 - the text is compared
    assert settled.mount.log_file == "/var/log/o.log"
    assert Path(settled.store.credentials_file or "").is_absolute()
    assert anchored(Settings()) == Settings()


ROWS = b"key,size,etag\na/1,1,e\n"


@contextmanager
def pipe_of_rows(path: Path) -> Iterator[Settings]:
    """Settings whose list is a pipe."""
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(ROWS,), daemon=True)
    writer.start()
    yield compose({"manifest": str(path), "base_uri": "s3://b/", "cache_dir": str(path.parent / "cache")})
    writer.join(20)


def test_the_same_list_through_two_pipes_at_once(tmp_path: Path) -> None:
    """Who has done with it takes only its own copy away."""
    kept = tmp_path / "kept"
    with pipe_of_rows(tmp_path / "one") as one, standard_input_as_file(one, kept) as first:
        with pipe_of_rows(tmp_path / "two") as two, standard_input_as_file(two, kept) as second:
            assert Path(second.source.manifest or "").read_bytes() == ROWS
        assert Path(first.source.manifest or "").read_bytes() == ROWS
    assert list(kept.iterdir()) == []


def test_the_index_of_the_same_list_through_another_pipe(tmp_path: Path) -> None:
    with pipe_of_rows(tmp_path / "one") as one:
        built = choose_index([], one, no_report)
    with pipe_of_rows(tmp_path / "two") as two:
        kept = choose_index([], two, no_report)
    assert (built.built, kept.built, kept.path) == (True, False, built.path)
    assert kept.info.options["manifest"] == "-"


@pytest.mark.parametrize(
    ("name", "what"), [("pipe", "no regular file"), (".", "a directory"), ("/", "a dir")]
)
def test_an_index_replaces_files_only(
    name: str, what: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IndexFileError, match=f"is {what}"):
        build_at([source], name, compose(), no_report)
    assert (tmp_path / "pipe").is_fifo()


def test_a_directory_of_an_index_is_named_in_what_is_wrong_with_it(source: str, tmp_path: Path) -> None:
    build_index([source], tmp_path / "x.ossidx", compose(), no_report)
    with pytest.raises(SourceError, match=r"^'/file/' is not a directory of this index"):
        list(index_ls(str(tmp_path / "x.ossidx"), "/file/"))
    with pytest.raises(SourceError, match=r"^no 'none' in this index"):
        list(index_ls(str(tmp_path / "x.ossidx"), "none"))
