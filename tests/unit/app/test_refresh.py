"""The next generation of an index: what changed is said, what did not keeps its number, nothing is lost.

Touch it when a refresh promises something else (docs/generations.md).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ossmount.app import index_generations
from ossmount.app.changes import ChangedPath, Inode, InvalidationFile, Name, read_invalidations, row_of
from ossmount.app.control_protocol import LONGEST_LINE, encode, socket_address, unix_stream
from ossmount.app.generations import Refreshed, _alone, refresh_index
from ossmount.app.indexes import build_index
from ossmount.app.recipe import from_recipe, recipe_of
from ossmount.app.runtime import MountRecord
from ossmount.config import Settings, compose
from ossmount.errors import EmptySource, IndexFileError, MountError, OssmountError, SettingsError
from ossmount.index import Change, LmdbIndex, compare, export, open_index, reserved
from ossmount.model import ROOT_INODE
from tests.support.index_files import index_of, numbered_tree, silent


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return numbered_tree(tmp_path / "source", 40)


@pytest.fixture
def index(source: Path, tmp_path: Path) -> Path:
    return index_of(source, tmp_path / "x.ossidx")


def refresh(index: Path, mounted: Path | None = None) -> tuple[Refreshed, list[Change]]:
    changes: list[Change] = []
    return refresh_index(index, Settings(), silent, changes.append, mounted), changes


def alter(source: Path) -> None:
    (source / "class0" / "000").write_bytes(b"other content")
    (source / "class1" / "001").unlink()
    (source / "class9").mkdir()
    (source / "class9" / "new").write_bytes(b"new")


def number_of(index: Path, path: bytes) -> int:
    with closing(open_index(index)) as opened:
        return opened.resolve(path)


def test_says_what_changed(source: Path, index: Path) -> None:
    alter(source)
    refreshed, changes = refresh(index)
    assert [row_of(change) for change in changes] == [
        ChangedPath("changed", b"class0/000"),
        ChangedPath("gone", b"class1/001"),
        ChangedPath("added", b"class9/"),
        ChangedPath("added", b"class9/new"),
    ]
    counts = (refreshed.added, refreshed.changed, refreshed.gone, refreshed.files)
    assert counts == (1, 1, 1, 40)
    assert (refreshed.previous, refreshed.generation, refreshed.is_new) == (1, 2, True)
    with closing(open_index(index)) as opened:
        assert opened.info().generation == 2
        assert opened.info().checksum == refreshed.checksum


def test_numbers_stay_but_for_new_content(source: Path, index: Path) -> None:
    before = {name: number_of(index, name) for name in (b"class0", b"class0/000", b"class0/004")}
    alter(source)
    refresh(index)
    assert number_of(index, b"class0") == before[b"class0"]
    assert number_of(index, b"class0/004") == before[b"class0/004"]
    assert number_of(index, b"class0/000") > max(before.values())


def test_nothing_new_leaves_the_file_alone(index: Path) -> None:
    before = index.stat()
    refreshed, changes = refresh(index)
    assert (refreshed.generation, refreshed.is_new, changes) == (1, False, [])
    assert os.path.samestat(before, index.stat())


def pinned(index: Path) -> Path:
    """A copy of the file: LMDB opens no file twice in a process."""
    return Path(shutil.copy(index, index.with_name("pinned")))


def test_open_indexes_go_on(source: Path, index: Path) -> None:
    with closing(open_index(pinned(index))) as old:
        alter(source)
        refresh(index)
        assert old.info().generation == 1
        assert old.resolve(b"class1/001")


@pytest.mark.parametrize("trouble", ["gone", "empty"])
def test_failure_replaces_nothing(source: Path, index: Path, trouble: str) -> None:
    before = index.read_bytes()
    for path in sorted(source.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if trouble == "gone":
        source.rmdir()
    with pytest.raises(OssmountError) as caught:
        refresh(index)
    assert trouble == "gone" or isinstance(caught.value, EmptySource)
    assert index.read_bytes() == before
    assert sorted(path.name for path in index.parent.glob("x*")) == ["x.ossidx"]


def test_what_a_killed_refresh_left_goes(index: Path) -> None:
    with reserved(index) as beside, reserved(beside) as of_its_build:
        left = [*index.parent.glob("x*"), beside, of_its_build]
    for path in left:
        path.touch()
    refresh(index)
    assert sorted(path.name for path in index.parent.glob("x*")) == ["x.ossidx"]


def test_one_at_a_time(index: Path) -> None:
    with index.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(IndexFileError, match="being refreshed"):
            refresh(index)


class TestOfAMount:
    """A mount goes over only to what was built upon the generation that it serves."""

    @pytest.fixture
    def mounted(self, index: Path) -> Path:
        path = index.with_name("mounted")
        os.link(index, path)
        return path

    def test_begins_with_the_file_that_is_mounted(self, source: Path, index: Path, mounted: Path) -> None:
        alter(source)
        refreshed, changes = refresh(index, mounted)
        assert (refreshed.generation, len(changes)) == (2, 4)
        assert refresh(index, mounted)[0].checksum == refreshed.checksum

    def test_takes_what_another_process_built(self, source: Path, index: Path, mounted: Path) -> None:
        alter(source)
        first, _ = refresh(index)
        second, changes = refresh(index, mounted)
        assert (second.previous, second.generation, second.checksum) == (1, 2, first.checksum)
        assert len(changes) == 4

    def test_does_not_take_an_index_of_another_line(self, source: Path, index: Path, mounted: Path) -> None:
        alter(source)
        (source / "class0" / "0001").write_bytes(b"takes a number")
        build_index([f"{source}/"], index, Settings(), silent)
        assert number_of(index, b"class0/004") != number_of(mounted, b"class0/004")
        refreshed, _ = refresh(index, mounted)
        assert refreshed.generation == 2
        assert number_of(index, b"class0/004") == number_of(mounted, b"class0/004")

    def test_goes_on_without_its_file(self, source: Path, index: Path, mounted: Path) -> None:
        index.unlink()
        alter(source)
        refreshed, _ = refresh(index, mounted)
        assert refreshed.generation == 2
        assert open_index(index).info().generation == 2


@pytest.mark.timeout(30)
def test_a_mount_that_is_killed_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves its record behind, and nobody who would say how far the refresh is."""
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr(index_generations, "ASK_SECONDS", 0.0)
    directory = MountRecord(str(tmp_path / "mnt"), "s3://b/", "/no/index", os.getpid()).write()
    listener = unix_stream()
    with socket_address(directory) as address:
        listener.bind(address)
    listener.listen()

    def agree_and_die() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(LONGEST_LINE)
            listener.close()
            peer.sendall(encode({"v": 1, "ok": True}))

    supervisor = threading.Thread(target=agree_and_die)
    supervisor.start()
    with pytest.raises(MountError, match="no ossmount mount of this user at"):
        index_generations.refresh_mount(str(tmp_path / "mnt"))
    supervisor.join()


def invalidations(old: LmdbIndex, new: LmdbIndex, path: Path) -> set[Name | Inode]:
    with path.open("w") as output:
        file = InvalidationFile(output)
        for change in compare(old, new):
            file.add(change)
        file.finish(new)
    rows = list(read_invalidations(path))
    assert len(rows) == file.count
    return set(rows)


def test_invalidations(source: Path, index: Path, tmp_path: Path) -> None:
    with closing(open_index(pinned(index))) as old:
        alter(source)
        os.utime(source / "class2" / "002", (1, 1))
        refresh(index)
        with closing(open_index(index)) as new:
            found = invalidations(old, new, tmp_path / "rows")
            class0, class1, class9 = (new.resolve(name) for name in (b"class0", b"class1", b"class9"))
            names = {Name(class0, b"000"), Name(class1, b"001"), Name(ROOT_INODE, b"class9")}
            assert names <= found
            assert {Inode(ROOT_INODE), Inode(class0), Inode(class1), Inode(class9)} <= found


def test_recipe_repeats_the_settings(tmp_path: Path) -> None:
    given = compose(
        {"endpoint_url": "http://h:1", "layout": "labels", "manifest": "m.tsv", "on_missing": "skip"}
        | {"cache_size": 5, "region": "r"}
    )
    uris, again = from_recipe(recipe_of([], given), Settings(), "x")
    assert uris == []
    assert again.source == replace(given.source, manifest=str(Path("m.tsv").absolute()))
    assert (again.store, again.index) == (given.store, given.index)
    assert again.cache == Settings().cache


def test_recipe_yields_to_what_is_said_now() -> None:
    recipe = recipe_of(["s3://b/p/"], compose({"endpoint_url": "http://old", "region": "r"}))
    uris, again = from_recipe(recipe, compose({"endpoint_url": "http://new"}), "x")
    assert uris == ["s3://b/p/"]
    assert (again.store.endpoint_url, again.store.region) == ("http://new", "r")


def test_recipe_holds_no_secrets() -> None:
    recipe = recipe_of(["https://user:word@h/a?X-Signature=s"], compose({"manifest": "https://h/m?token=t"}))
    assert "https://h/a" in recipe["sources"]
    assert not [word for word in ("word", "X-Signature", "token") if word in str(recipe)]


@pytest.mark.parametrize("recipe", [{}, {"layout": "keys"}, {"objects": "/c/stdin-" + 24 * "f"}])
def test_recipe_that_cannot_be_repeated(recipe: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        from_recipe(recipe, Settings(), "x.ossidx")


CLOSED = compose({"local_files": False})
"""Of a mount for somebody else, whose index anybody may have pushed."""


def test_recipe_of_anybody_runs_no_program() -> None:
    recipe = {"manifest": "s3://b/m", "manifest_parser": "pickle:load"}
    with pytest.raises(SettingsError, match="made with --manifest-parser"):
        from_recipe(recipe, CLOSED, "x.ossidx")
    assert from_recipe(recipe, Settings(), "x.ossidx")[1].source.manifest_parser == "pickle:load"


def test_recipe_of_anybody_takes_no_identity() -> None:
    recorded = {"credentials_file": "/etc/keys", "profile": "p", "ecs_ram_role": "r", "local_files": "true"}
    recipe = recipe_of(["s3://b/p/"], Settings()) | recorded
    own = compose({"local_files": False, "credentials_file": "/own"})
    assert from_recipe(recipe, own, "x.ossidx")[1].store == own.store


def test_recipe_of_anybody_leads_to_no_other_index(source: Path, index: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "indexes"
    kept.mkdir(parents=True)
    view, before = kept / "view.ossidx", index.read_bytes()
    build_index([str(index)], view, Settings(), silent)
    alter(source)
    closed = compose({"local_files": False, "cache_dir": str(tmp_path / "cache")})
    for told in (view, index):
        with pytest.raises(SettingsError, match=r"x\.ossidx may not be replaced here"):
            refresh_index(told, closed, silent)
    assert index.read_bytes() == before


def test_recipe_of_a_version_that_took_any_number() -> None:
    recipe = recipe_of(["s3://b/p/"], Settings()) | {"retries": "1000"}
    assert from_recipe(recipe, Settings(), "x.ossidx")[1].store.retries == 1000
    assert from_recipe(recipe, compose({"retries": 7}), "x.ossidx")[1].store.retries == 7


def test_a_file_system_without_locks_is_refreshed_on(
    source: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    alter(source)
    assert refresh(index)[0].added == 1


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("table:labels.csv", "table:{here}/labels.csv"),
        ("table:labels.csv#key=file,label=kind", "table:{here}/labels.csv#key=file,label=kind"),
        ("table:s3://b/labels.csv#key=file", "table:s3://b/labels.csv#key=file"),
        ("sidecar:labels/{stem}.json:category", "sidecar:labels/{stem}.json:category"),
        ("parent", "parent"),
    ],
)
def test_a_table_of_labels_is_recorded_where_it_is(given: str, recorded: str) -> None:
    recipe = recipe_of(["s3://b/p/"], compose({"label_from": given}))
    assert recipe["label_from"] == recorded.replace("{here}", str(Path.cwd()))


def test_labels_of_a_table_are_found_from_another_directory(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.csv").write_text("key,label\nclass0/000,cat\n")
    (tmp_path / "elsewhere").mkdir()
    index = tmp_path / "x.ossidx"
    monkeypatch.chdir(tmp_path)
    build_index([f"{source}/"], index, compose({"label_from": "table:labels.csv"}), silent)
    monkeypatch.chdir(tmp_path / "elsewhere")
    (source / "class0" / "000").write_bytes(b"other content")
    assert refresh(index)[0].changed == 1
    with closing(open_index(index)) as opened:
        labels = {e.path: e.label for batch in export(opened) for e in batch.entries()}
    assert labels[b"class0/000"] == "cat"


def test_the_lock_of_a_refresh_is_given_back(tmp_path: Path) -> None:
    """One that stayed would refuse the next refresh of the same mount."""
    path = tmp_path / "x.ossidx"
    path.touch()
    with _alone(path):
        pass
    with _alone(path), pytest.raises(IndexFileError), _alone(path):
        pass
