"""From SOURCE and options to the index that is mounted: bases, derived indexes, saved views."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ossmount import index
from ossmount.app import views
from ossmount.app.artefacts import push_index
from ossmount.app.generations import refresh_index
from ossmount.app.indexes import ChosenIndex, build_index, choose_index
from ossmount.config import Settings, compose
from ossmount.errors import EmptySource, IndexFileError, SettingsError, SourceError

FILES = {"a/1.jpg": b"1", "a/2.png": b"22", "b/1.jpg": b"333", "b/c/4.jpg": b"4444"}


@pytest.fixture
def tree(tmp_path: Path) -> str:
    """A directory of FILES, as a prefix."""
    return make_tree(tmp_path / "tree", FILES)


def make_tree(root: Path, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return f"file://{root}/"


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def options(tmp_path: Path, **values: Any) -> Settings:
    return compose({"cache_dir": str(tmp_path / "cache"), **values})


def choose(uris: Iterable[str], settings: Settings) -> ChosenIndex:
    return choose_index(list(uris), settings, lambda _: None)


def paths(chosen: ChosenIndex) -> list[str]:
    with closing(index.open_index(chosen.path)) as opened:
        return [path.decode() for batch in index.export(opened) for path in batch.paths]


def test_views_share_one_listing(tree: str, tmp_path: Path) -> None:
    base = choose([tree], options(tmp_path))
    assert base.built
    assert paths(base) == sorted(FILES)
    # From here on the source is gone: whatever is shown comes from the index.
    (tmp_path / "tree").rename(tmp_path / "elsewhere")
    jpegs = choose([tree], options(tmp_path, include="*.jpg", min_size=3))
    assert paths(jpegs) == ["b/1.jpg", "b/c/4.jpg"]
    assert jpegs.info.source == base.info.source
    assert jpegs.info.options["include"] == "*.jpg"
    assert not choose([tree], options(tmp_path, include="*.jpg", min_size=3)).built
    assert choose([tree], options(tmp_path, seed=5)).path == base.path


def test_labels_are_a_view_too(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", FILES)
    manifest = tmp_path / "labels.tsv"
    manifest.write_text("a/1.jpg\tcat\nb/1.jpg\tdog\na/2.png\tdog\n")
    given = {"manifest": str(manifest), "base_uri": tree}
    plain = choose([], options(tmp_path, **given))
    assert paths(plain) == ["a/1.jpg", "a/2.png", "b/1.jpg"]
    labelled = choose([], options(tmp_path, **given, layout="labels", split="train=1"))
    assert paths(labelled) == ["train/cat/1.jpg", "train/dog/1.jpg", "train/dog/2.png"]
    with pytest.raises(SourceError, match="no file has the label 'cow'; the nearest are"):
        choose([], options(tmp_path, **given, label="cow"))


def test_an_index_as_source(tree: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.ossidx"
    build_index([tree], file, options(tmp_path), lambda _: None)
    assert choose([str(file)], options(tmp_path)).path == file
    assert paths(choose([str(file)], options(tmp_path, suffix=".PNG"))) == ["a/2.png"]
    assert paths(choose([], options(tmp_path, index=str(file), suffix=".png"))) == ["a/2.png"]
    with pytest.raises(IndexFileError):
        choose([str(tmp_path / "missing.ossidx")], options(tmp_path))
    with pytest.raises(SettingsError, match="--label-from belongs to the building"):
        choose([str(file)], options(tmp_path, label_from="parent"))
    monkeypatch.chdir(tmp_path)
    assert choose(["train.ossidx"], options(tmp_path)).path == file, "wherever the mount goes"
    assert choose([], options(tmp_path, index="train.ossidx")).path == file


def test_a_named_index_has_all_and_the_layout_of_its_first_use(tree: str, tmp_path: Path) -> None:
    all_of_it, labelled = str(tmp_path / "all.ossidx"), str(tmp_path / "labelled.ossidx")
    assert paths(choose([tree], options(tmp_path, index=all_of_it, suffix=".png"))) == ["a/2.png"]
    assert paths(choose([], options(tmp_path, index=all_of_it))) == sorted(FILES)
    asked = options(tmp_path, index=labelled, layout="labels", label_from="parent", include="a/*")
    choose([tree], asked)
    assert {"a/1.jpg", "c/4.jpg"} <= set(paths(choose([], options(tmp_path, index=labelled))))


def test_an_index_in_labels_layout_is_not_moved_again(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", {"a/1": b"1"})
    file, settings = tmp_path / "x.ossidx", options(tmp_path, layout="labels")
    build_index([tree], file, settings, lambda _: None)
    assert choose([str(file)], settings).path == file
    assert choose([tree], replace(settings, index=replace(settings.index, index=str(file)))).path == file


def test_labels_are_laid_out_in_all_that_is_merged(tmp_path: Path) -> None:
    """Also where the first index has that layout already."""
    files = []
    for name, layout in (("one", "labels"), ("two", "keys")):
        (tmp_path / name).write_text(f"key,size,etag,label\nx/{name},1,e,cat\n")
        given = {"manifest": str(tmp_path / name), "base_uri": f"s3://{name}/", "layout": layout}
        files.append(str(tmp_path / f"{name}.ossidx"))
        build_index([], Path(files[-1]), options(tmp_path, **given), lambda _: None)
    assert paths(choose(files, options(tmp_path, layout="labels"))) == ["cat/one", "cat/two"]


def test_an_index_in_a_store_has_a_name_where_one_is_given(tree: str, tmp_path: Path) -> None:
    file, uri = tmp_path / "x.ossidx", f"file://{tmp_path}/bucket/x.ossidx"
    build_index([tree], file, options(tmp_path), lambda _: None)
    (tmp_path / "bucket").mkdir()
    push_index(file, uri, options(tmp_path), lambda _: None)
    assert paths(choose([uri], options(tmp_path))) == sorted(FILES)
    assert paths(choose([f"all={uri}"], options(tmp_path))) == [f"all/{path}" for path in sorted(FILES)]


def test_build_applies_views(tree: str, tmp_path: Path) -> None:
    file = tmp_path / "jpegs.ossidx"
    info = build_index([tree], file, options(tmp_path, include="b/**", shard="0/1"), lambda _: None)
    assert info.files == 2


def test_several_sources_under_names_and_merged(tree: str, tmp_path: Path) -> None:
    other = make_tree(tmp_path / "other", {"a/1.jpg": b"other", "z": b"z"})
    file = tmp_path / "other.ossidx"
    build_index([other], file, options(tmp_path), lambda _: None)
    named = choose([f"one={tree}", f"two={file}"], options(tmp_path, suffix=".jpg"))
    assert paths(named) == ["one/a/1.jpg", "one/b/1.jpg", "one/b/c/4.jpg", "two/a/1.jpg"]
    merged = choose([tree, str(file)], options(tmp_path))
    assert merged.info.files == 6
    assert {"z", "a/2.png"} <= set(paths(merged))
    assert paths(choose([f"only={file}"], options(tmp_path))) == ["only/a/1.jpg", "only/z"]
    with pytest.raises(SettingsError, match="--index belongs to a single source"):
        choose([f"only={tree}"], options(tmp_path, index=str(file)))


@pytest.mark.parametrize(
    ("uris", "reason"),
    [
        (["a=s3://b/x/", "a=s3://c/x/"], "two sources have the name 'a'"),
        (["..=s3://b/x/", "b=s3://c/x/"], "cannot be the name of a source"),
        (["x.ossidx", "s3://b/object"], "cannot be mounted together with single objects"),
    ],
)
def test_sources_that_do_not_go_together(uris: list[str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        views.parts_of(uris)


def test_what_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = ["s3://b/x", "s3://b/k=v/y"]
    assert views.parts_of(objects) == [views.Part("", tuple(objects))]
    assert views.parts_of([]) == [views.Part("", ())]
    assert views.parts_of(["s3://b/k=v/"]) == [views.Part("", ("s3://b/k=v/",))]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.ossidx").touch()
    assert views.parts_of(["a=b.ossidx"]) == [views.Part("", ("a=b.ossidx",))]


def test_saved_views(tree: str, tmp_path: Path) -> None:
    asked = options(tmp_path, split="train=0.5,val=0.5", seed=3, label="a\\,b,c", layout="labels")
    for name in ("mine", str(tmp_path / "mine.json")):
        path = views.view_create(name, asked)
        assert path.read_text() == views.view_show(name)
        back = views.resolved(options(tmp_path, view=name))
        assert views.description_of(back) == views.description_of(asked)
        assert views.description_of(back).label == ("a,b", "c")
    wins = views.resolved(options(tmp_path, view="mine", seed=4))
    assert (wins.view.seed, wins.view.split) == (4, "train=0.5,val=0.5")
    by_default = views.resolved(options(tmp_path, view="mine", seed=0, layout="keys"))
    assert (by_default.view.seed, by_default.index.layout) == (0, "keys")
    views.view_create("jpegs", options(tmp_path, suffix=".jpg", include="a/**"))
    assert paths(choose([tree], options(tmp_path, view="jpegs"))) == ["a/1.jpg"]


def test_a_missing_view_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"views/none\.json cannot be read: No such file"):
        views.resolved(options(tmp_path, view="none"))


def test_a_file_is_no_view_where_no_local_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("one word")
    views.view_create("saved", options(tmp_path, suffix=".jpg"))
    closed = options(tmp_path, local_files=False)
    for name in (tmp_path / "secret.json", "secret.json"):
        with pytest.raises(SettingsError, match=r"may not be opened here; name a saved view$"):
            views.resolved(replace(closed, view=replace(closed.view, view=str(name))))
    assert views.resolved(replace(closed, view=replace(closed.view, view="saved"))).view.suffix == ".jpg"


def test_nothing_left_is_one_line_and_no_file(tree: str, tmp_path: Path) -> None:
    with pytest.raises(EmptySource, match=r"no file of .* is left by --include \*\.gif"):
        choose([tree], options(tmp_path, include="*.gif"))
    assert list((tmp_path / "cache/indexes/views").iterdir()) == []


def test_mistakes_cost_no_listing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--split: the shares sum to 0\.9"):
        choose(["file:///nowhere/"], options(tmp_path, split="train=0.9"))


def test_a_derived_index_is_refreshed_from_its_base(tree: str, tmp_path: Path) -> None:
    file = tmp_path / "base.ossidx"
    build_index([tree], file, options(tmp_path), lambda _: None)
    view = choose([f"n={file}"], options(tmp_path, suffix=".jpg"))
    make_tree(tmp_path / "tree", {"c/new.jpg": b"new"})
    assert refresh_index(file, options(tmp_path), lambda _: None).added == 1
    assert refresh_index(view.path, options(tmp_path), lambda _: None).added == 1
    assert "n/c/new.jpg" in paths(view)


def test_a_derived_index_is_not_taken_for_that_of_a_base_it_was_refreshed_from(
    tree: str, tmp_path: Path
) -> None:
    base, copy = tmp_path / "base.ossidx", tmp_path / "copy.ossidx"
    build_index([tree], base, options(tmp_path), lambda _: None)
    copy.write_bytes(base.read_bytes())
    view = choose([str(base)], options(tmp_path, suffix=".jpg"))
    before = paths(view)
    make_tree(tmp_path / "tree", {"c/new.jpg": b"new"})
    refresh_index(view.path, options(tmp_path), lambda _: None)
    assert paths(view) == [*before, "c/new.jpg"]
    assert paths(choose([str(copy)], options(tmp_path, suffix=".jpg"))) == before


def test_a_view_is_written_to_a_pipe_and_does_not_replace_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDWR)
    try:
        views.view_create(str(pipe), options(tmp_path, suffix=".jpg"))
        assert b".jpg" in os.read(reading, 1 << 16)
    finally:
        os.close(reading)
    assert pipe.is_fifo()


def test_a_view_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a view needs a name"):
        views.view_create("", options(tmp_path))


def test_a_finished_listing_leaves_nothing(tree: str, tmp_path: Path) -> None:
    file = tmp_path / "x.ossidx"
    build_index([tree], file, options(tmp_path), lambda _: None)
    assert [path.name for path in tmp_path.iterdir() if "listing" in path.name] == []


def age(path: Path, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def test_derived_indexes_that_nobody_asks_for_are_removed(tree: str, tmp_path: Path) -> None:
    """The base stays however old it is: it would have to be listed again."""
    forgotten, used, young = (
        choose([tree], options(tmp_path, include=glob)).path for glob in ("a/*", "b/*", "*.png")
    )
    base = choose([tree], options(tmp_path)).path
    for path in (base, forgotten, used):
        age(path, 31)
    age(young, 29)
    assert not choose([tree], options(tmp_path, include="b/*")).built
    assert forgotten.exists(), "a mount that writes nothing removes nothing"
    another = choose([tree], options(tmp_path, include="*.jpg")).path
    assert not forgotten.exists()
    assert all(path.exists() for path in (base, used, young, another))
    assert choose([tree], options(tmp_path, include="a/*")).path == forgotten, "made again, not listed again"
