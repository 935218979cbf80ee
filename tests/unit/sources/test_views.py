"""Views as pure transforms, against the same rules written row by row."""

from __future__ import annotations

import dataclasses
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.config import compose, parse_value
from ossmount.errors import EmptySource, SettingsError, SourceError
from ossmount.model import Entry, EntryBatch, Extent, ObjectId
from ossmount.sources.globs import compile_globs
from ossmount.sources.view_description import (
    ViewDescription,
    parse_shard,
    parse_splits,
    parse_view,
    view_of,
)
from ossmount.sources.views import apply_view, keeps_order, union

HALVES = (("train", "1/2"), ("val", "0.5"))


def entry(path: str, size: int = 1, label: str | None = None) -> Entry:
    return Entry(path.encode(), Extent(ObjectId("s3://b", path, "e", size), 0, size), label, 5)


def shown(view: ViewDescription, *entries: Entry, rows: int = 3) -> list[Entry]:
    batches = [EntryBatch.of(entries[i : i + rows]) for i in range(0, len(entries), rows)]
    return [found for batch in apply_view(view.check(), iter(batches)) for found in batch.entries()]


def paths(view: ViewDescription, *entries: Entry) -> list[str]:
    return [found.path.decode() for found in shown(view, *entries)]


FILES = (
    entry("a/x.jpg", 10, "cat"),
    entry("a/y.PNG", 20, "dog"),
    entry("b/c/x.jpg", 30, "dog"),
    entry("b/readme.txt", 40),
    entry("é.jpg", 50, "cat"),
)


def test_the_case_of_a_suffix_does_not_matter_in_any_alphabet() -> None:
    names = [entry(name, 1) for name in ("a.ÉÉ", "b.éé", "c.ee")]
    assert paths(ViewDescription(suffix=(".Éé",)), *names) == ["a.ÉÉ", "b.éé"]


@pytest.mark.parametrize(
    ("view", "left"),
    [
        (ViewDescription(), ["a/x.jpg", "a/y.PNG", "b/c/x.jpg", "b/readme.txt", "é.jpg"]),
        (ViewDescription(include=("*.jpg",)), ["a/x.jpg", "b/c/x.jpg", "é.jpg"]),
        (ViewDescription(include=("?.jpg",), exclude=("b/**",)), ["a/x.jpg", "é.jpg"]),
        (ViewDescription(exclude=("b",)), ["a/x.jpg", "a/y.PNG", "é.jpg"]),
        (ViewDescription(include=("/b/*.jpg", "b/**/x.jpg")), ["b/c/x.jpg"]),
        (ViewDescription(label=("cat",)), ["a/x.jpg", "é.jpg"]),
        (ViewDescription(label=("dog",), suffix=(".png",)), ["a/y.PNG"]),
        (ViewDescription(min_size=20, max_size=40), ["a/y.PNG", "b/c/x.jpg", "b/readme.txt"]),
        (ViewDescription(suffix=(".JPG", ".txt")), ["a/x.jpg", "b/c/x.jpg", "b/readme.txt", "é.jpg"]),
        (
            ViewDescription(layout="labels"),
            ["cat/x.jpg", "dog/y.PNG", "dog/x.jpg", "_unlabelled/readme.txt", "cat/é.jpg"],
        ),
        (ViewDescription(layout="labels", unlabelled="skip", max_size=40, min_size=40, exclude=("z",)), None),
    ],
)
def test_examples(view: ViewDescription, left: list[str] | None) -> None:
    if left is None:
        with pytest.raises(EmptySource, match="--min-size 40 --max-size 40"):
            shown(view, *FILES)
    else:
        assert paths(view, *FILES) == left


def test_rows_stay_together_and_markers_go() -> None:
    rows = shown(ViewDescription(label=("dog",)), entry("a/", 0), *FILES)
    assert rows == [FILES[1], FILES[2]]


NAMES = st.text(alphabet="abcde/", min_size=1, max_size=6).filter(lambda name: not name.endswith("/"))


@settings(max_examples=60)
@given(st.sets(NAMES, min_size=1, max_size=40), st.integers(0, 1 << 70), st.sets(NAMES, max_size=10))
def test_splits_are_stable_and_complete(names: set[str], seed: int, added: set[str]) -> None:
    view = ViewDescription(splits=(("train", "0.7"), ("val", "0.2"), ("test", "0.1")), seed=seed)
    first = set(paths(view, *map(entry, sorted(names))))
    assert {path.partition("/")[2] for path in first} == names
    assert first <= set(paths(view, *map(entry, sorted(names | added))))


@settings(max_examples=30)
@given(st.sets(NAMES, min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 100))
def test_shards_are_a_partition(names: set[str], count: int, seed: int) -> None:
    found: list[str] = []
    for number in range(count):
        try:
            found += paths(ViewDescription(shard=(number, count), seed=seed), *map(entry, sorted(names)))
        except EmptySource:
            continue
    assert sorted(found) == sorted(names)


def test_shares_are_kept_and_shards_cut_across_splits() -> None:
    files = [entry(f"{i:05}") for i in range(10_000)]
    view = ViewDescription(splits=(("train", "0.9"), ("val", "0.1")), seed=7)
    whole = Counter(path.split("/")[0] for path in paths(view, *files))
    assert abs(whole["val"] - 1000) < 120
    part = Counter(path.split("/")[0] for path in paths(dataclasses.replace(view, shard=(1, 4)), *files))
    assert abs(part["val"] - 250) < 70
    assert abs(part["train"] - 2250) < 200
    other = set(paths(dataclasses.replace(view, seed=8), *files))
    assert len(other & set(paths(view, *files))) < 9_000


def test_a_split_never_changes_for_a_description() -> None:
    # Saved views are promised to give the same tree for ever.
    view = ViewDescription(splits=HALVES, seed=7)
    files = [entry(f"img/{i}.jpg") for i in range(8)]
    assert "".join(path[0] for path in paths(view, *files)) == GOLDEN


GOLDEN = "vtvtvvvv"


def test_a_split_keeps_the_labels_layout_below_it() -> None:
    view = ViewDescription(layout="labels", splits=HALVES, seed=7)
    assert all(path.split("/")[1] in {"cat", "dog", "_unlabelled"} for path in paths(view, *FILES))
    plain = paths(ViewDescription(splits=HALVES, seed=7), *FILES)
    assert [path.split("/")[0] for path in plain] == [p.split("/")[0] for p in paths(view, *FILES)]


def test_an_unknown_label_names_the_nearest() -> None:
    with pytest.raises(SourceError, match="no file has the label 'cta'; the nearest are 'cat'"):
        shown(ViewDescription(label=("cta",)), *FILES)
    with pytest.raises(SourceError, match="nothing here has a label"):
        shown(ViewDescription(label=("cat",)), entry("x"))


def test_several_trees() -> None:
    parts = [("", iter([EntryBatch.of(FILES[:1])])), ("two", iter([EntryBatch.of(FILES[1:3])]))]
    merged = [found.path for batch in union(parts) for found in batch.entries()]
    assert merged == [b"a/x.jpg", b"two/a/y.PNG", b"two/b/c/x.jpg"]


def test_which_views_keep_the_order() -> None:
    assert keeps_order(ViewDescription(include=("x",), splits=(("a", "1"),), shard=(0, 2)))
    assert not keeps_order(ViewDescription(splits=HALVES))
    assert not keeps_order(ViewDescription(layout="labels"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train=0.9,val=0.2", "the shares sum to 1.1, not to 1"),
        ("train=0.9", "sum to 0.9"),
        ("train=x", "'x' of 'train' is not a number"),
        ("train=1/0", "is not a number"),
        ("train=1e999", "'1e999' of 'train' is not a number"),
        ("train=1e-2,val=9e-1", "sum to 0.91"),
        ("train=1.5,val=-0.5", "is negative"),
        ("train", "is not NAME=SHARE"),
        ("a/b=1", "contains '/'"),
        ("=1", "the name is empty"),
        ("a=0.5,a=0.5", "'a' is there twice"),
    ],
)
def test_bad_splits(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"--split: .*{reason}"):
        parse_splits(text)


def test_shares_are_exact() -> None:
    assert sum(Fraction(share) for _, share in parse_splits("a=1/3, b=1/3, c=1/3")) == 1
    assert len(parse_splits(",".join(f"s{i}=0.1" for i in range(10)))) == 10


@pytest.mark.parametrize("text", ["4/4", "-1/4", "x", "1", "0/0", "1/2/3"])
def test_bad_shards(text: str) -> None:
    with pytest.raises(SettingsError, match="--shard"):
        parse_shard(text)


@pytest.mark.parametrize("glob", ["", "/", "[a", "a//b", "[é]", "[z-a]", "[]"])
def test_bad_globs(glob: str) -> None:
    with pytest.raises(SettingsError, match=r"--include: .* is not a glob"):
        ViewDescription(include=(glob,)).check()


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("*.jpg", "a/b.jpg", True),
        ("*.jpg", "b.jpgx", False),
        ("a*b", "a/b", False),
        ("[a-c]?", "dir/bé", True),
        ("[!a]", "a", False),
        ("[!a]", "é", True),
        ("[^a]", "^", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("**/c", "c", True),
        ("/c", "b/c", False),
        ("a/", "a/b", True),
        ("a/", "a", False),
        ("a+(b)", "a+(b)", True),
        ("a\nb", "a\nb", True),
        ("x", "x\n", False),
        ("\udc80*", "\udc80x", True),
    ],
)
def test_globs(glob: str, path: str, matches: bool) -> None:
    found = compile_globs([glob], "--include")(path.encode("utf-8", "surrogateescape"))
    assert (found is not None) is matches


TEXTS = st.lists(st.text(alphabet="abé*.,\\", min_size=1, max_size=4), max_size=3).map(tuple)


@given(
    st.builds(
        ViewDescription,
        layout=st.sampled_from(["keys", "labels"]),
        include=TEXTS,
        suffix=TEXTS,
        max_size=st.none() | st.integers(0, 1 << 50),
        splits=st.sampled_from([(), HALVES]),
        seed=st.integers(-(1 << 65), 1 << 65),
        shard=st.none() | st.tuples(st.integers(0, 3), st.integers(4, 9)),
    )
)
def test_descriptions_come_back(view: ViewDescription) -> None:
    assert parse_view(view.to_json(), "x") == view
    texts = view.options()
    options = compose({name: parse_value(name, text, "x") for name, text in texts.items()})
    assert view_of(options.view, options.index.layout, options.index.unlabelled) == view


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not a view"),
        ("[]", "is not a view"),
        ('{"ossmount-view": 2}', "version 2"),
        ('{"ossmount-view": 1, "incldue": []}', "unknown member 'incldue'"),
        ('{"ossmount-view": 1, "include": "*.jpg"}', "include is not a list"),
        ('{"ossmount-view": 1, "splits": {"a": 1}}', "splits is not"),
        ('{"ossmount-view": 1, "shard": [4, 4]}', "--shard"),
        ('{"ossmount-view": 1, "seed": true}', "seed is not a number"),
        ('{"ossmount-view": 1, "label": ["a/b"]}', "contains '/'"),
        ('{"ossmount-view": 1, "min_size": 5, "max_size": 4}', "no file has a size from 5 to 4"),
    ],
)
def test_bad_descriptions(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_view(text, "v.json")


def test_what_is_the_identity() -> None:
    assert ViewDescription(seed=3).is_identity
    assert not ViewDescription(min_size=1).is_identity
