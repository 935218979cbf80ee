"""What a build promises: complete or nothing, in any order, with every key accounted for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ossmount.errors import EmptySource, IndexFileError, NameRefused, SourceError
from ossmount.index import build, compare, export, open_index, report, reserved
from ossmount.index.layout import RUNS
from ossmount.index.storage import Tables
from ossmount.model import ROOT_INODE, Entry, EntryBatch, Extent, Kind, ObjectId, Progress
from tests.unit.index.conftest import BuildIndex, entry

MUST_SHOW = [
    "a", "a/b", "a//b", "./x", "../x", "x/", "n" * 256, "d/" + "k" * 998,
    "caf\u00e9", "cafe\u0301", "with space", "new\nline", "%2E",
]  # fmt: skip
"""The key set of the main issue."""


def test_nothing_of_the_nasty_key_set_is_lost(make_index: BuildIndex) -> None:
    index = make_index([entry(key, 0 if key.endswith("/") else len(key)) for key in MUST_SHOW])
    reached = {index.extent(ref.ino).object.key for chunk in index.files(ROOT_INODE) for ref in chunk}
    assert reached == set(MUST_SHOW) - {"x/"}
    assert index.attributes(index.resolve(b"x")).kind is Kind.DIRECTORY
    renamed = {row.name for row in report(index)}
    assert {b"a%file", b"a/%empty/", b"%2E/", b"%2E%2E/", b"%252E"} <= renamed
    assert sum(b"%long-" in name for name in renamed) == 2
    assert index.meta["counts"] == {"rename": 7, "merge": 0, "skip": 0}
    assert "caf\u00e9".encode() != "cafe\u0301".encode()
    assert index.resolve("caf\u00e9".encode()) != index.resolve("cafe\u0301".encode())


def test_what_follows_a_directory_is_not_in_it(make_index: BuildIndex) -> None:
    """``0`` stands behind ``/``, so nothing stands between them."""
    keys = ["a/x", "a/y", "a0", "a0x", "a0z", "a1", "a2/a"]
    index = make_index([entry(key) for key in keys])
    assert [path.decode() for batch in export(index) for path in batch.paths] == keys
    assert [name for part in index.listing(index.resolve(b"a")) for name in part.names] == [b"x", b"y"]


def test_bad_keys_can_be_skipped(make_index: BuildIndex) -> None:
    good = ["ok", "%2E", "%25/x", ".0", "d" * 255 + "/f"]
    bad = ["./x", "../y/z", "d/..", "a//b"]
    index = make_index([entry(key) for key in good + bad], on_bad_key="skip")
    reached = {index.extent(ref.ino).object.key for chunk in index.files(ROOT_INODE) for ref in chunk}
    assert reached == set(good)
    assert index.meta["counts"]["skip"] == len(bad)
    assert {row.key for row in report(index) if row.what == "skip"} == {f"s3://bucket/{key}" for key in bad}


def test_input_out_of_order_counts_what_was_left_out_before_it_was_noticed(make_index: BuildIndex) -> None:
    late = [entry(f"f{i}") for i in range(20)]
    index = make_index(
        [entry("./x"), entry("b"), entry("b"), entry("d/.."), *late, entry("a"), entry("./y")],
        on_bad_key="skip",
    )
    assert index.meta["counts"] == {"rename": 0, "merge": 1, "skip": 3}
    assert sorted(row.what for row in report(index)) == ["merge", "skip", "skip", "skip"]


def test_a_build_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """A mount that refreshes builds for as long as it lives."""

    def once(number: int) -> int:
        build(batches_of([b"b", b"a"]), tmp_path / f"{number}.idx", source="x")
        return len(list(Path("/proc/self/fd").iterdir()))

    assert once(1) == once(2)


@pytest.mark.parametrize("key", ["./x", "a/..", "x\0", "n" * 256, "a//b"])
def test_bad_keys_can_be_refused(make_index: BuildIndex, tmp_path: Path, key: str) -> None:
    with pytest.raises(NameRefused, match="cannot be"):
        make_index([entry("ok"), entry(key)], on_bad_key="fail")
    assert list(tmp_path.iterdir()) == []


def batches_of(paths: list[bytes]) -> Iterator[EntryBatch]:
    for i in range(0, len(paths), 1000):
        yield EntryBatch.of([entry(path, i) for path in paths[i : i + 1000]])


def test_sorted_and_unsorted_input_give_one_tree(tmp_path: Path) -> None:
    paths = sorted(b"d%02d/e%d/f%05d" % (i % 37, i % 3, i) for i in range(20_000))
    shuffled = [paths[i * 7919 % len(paths)] for i in range(len(paths))]
    half = paths[:9000] + paths[:8999:-1]
    trees = []
    for number, order in enumerate((paths, shuffled, half)):
        where = tmp_path / f"{number}.idx"
        info = build(batches_of(order), where, source="x")
        assert info.files == len(paths)
        with open_index(where) as index:
            trees.append([path for batch in export(index) for path in batch.paths])
    assert trees == [paths, paths, paths]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.idx", "1.idx", "2.idx"]


@pytest.mark.parametrize(
    ("paths", "counts"),
    [
        ("ba", {"rename": 0, "merge": 0, "skip": 0}),
        ("aa", {"rename": 0, "merge": 1, "skip": 0}),
        ("aba", {"rename": 0, "merge": 1, "skip": 0}),
    ],
)
def test_order_between_batches_is_looked_at_too(tmp_path: Path, paths: str, counts: dict[str, int]) -> None:
    build((EntryBatch.of([entry(path)]) for path in paths), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        names = [name for part in index.listing(ROOT_INODE) for name in part.names]
        assert names == sorted({path.encode() for path in paths})
        assert index.meta["counts"] == counts
        for name in names:
            assert index.extent(index.resolve(name)).object.key == name.decode()


def test_an_object_far_from_its_directory_is_renamed(tmp_path: Path) -> None:
    """``a`` and ``a/b`` with so many names between them that the run of ``a`` was written long ago."""
    between = [b"a-%06d" % i for i in range(3000)]
    build(batches_of([b"a", *between, b"a/b", b"b"]), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        assert index.attributes(index.resolve(b"a")).kind is Kind.DIRECTORY
        assert index.extent(index.resolve(b"a%file")).object.key == "a"
        names = [name for part in index.listing(ROOT_INODE) for name in part.names]
        assert names == [b"a%file", *between, b"a", b"b"]


def test_a_directory_renames_no_object_of_another_name(tmp_path: Path) -> None:
    """Though the run that was written long ago is where one of its name would stand."""
    paths = [b"%c-%06d" % (letter, i) for letter in b"Aa" for i in range(3000)]
    build(batches_of([*paths, b"a/b"]), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        assert index.meta["counts"]["rename"] == 0
        assert [name for part in index.listing(ROOT_INODE) for name in part.names] == [*paths, b"a"]


@pytest.mark.parametrize("most_labels", [0, 10_000])
@pytest.mark.parametrize("offset", [0, 512])
def test_an_object_that_is_renamed_late_keeps_the_rest_of_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_labels: int, offset: int
) -> None:
    monkeypatch.setattr("ossmount.index.layout.LABELS_MAX", most_labels)
    paths = [b"a", *(b"a-%04d" % i for i in range(2000)), b"a/b"]
    shards = [ObjectId("s3://b", f"shard{i}.tar", f"e{i}", 10_000 + offset) for i in range(7)]
    entries = [
        Entry(path, Extent(shards[i % 7], offset, 10_000), f"label {i}", i) for i, path in enumerate(paths)
    ]
    build(iter([EntryBatch.of(entries)]), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        assert index.label(index.resolve(b"a%file")) == "label 0"
        assert [e for b in export(index) for e in b.entries()] == entries


def test_an_object_beside_a_directory_keeps_its_number(tmp_path: Path) -> None:
    """However late the build meets the directory, and whether it comes or goes."""
    between = [b"a-%06d" % i for i in range(3000)]
    both, alone = [b"a", *between, b"a/b"], [b"a", *between]
    old = tmp_path / "0.idx"
    build(batches_of(both), old, source="x")
    numbers = []
    for number, (paths, name) in enumerate([(both, b"a%file"), (alone, b"a"), (both, b"a%file")], 1):
        new = tmp_path / f"{number}.idx"
        with open_index(old) as before:
            build(batches_of(paths), new, source="x", previous=before)
            with open_index(new) as after:
                changes = [(change.kind.value, change.path) for change in compare(before, after)]
                numbers.append((before.resolve(b"a-000000"), after.resolve(name), changes))
        old = new
    came = [("gone", b"a"), ("added", b"a%file"), ("added", b"a"), ("added", b"a/b")]
    went = [("added", b"a"), ("gone", b"a%file"), ("gone", b"a"), ("gone", b"a/b")]
    assert numbers == [(3, 2, []), (3, 2, went), (3, 2, came)]


def test_many_rows_with_equal_beginnings_beyond_the_key_limit(tmp_path: Path) -> None:
    paths = sorted(b"k" * 600 + b"%05d" % i for i in range(1000))
    build(batches_of(paths), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        names = [name for part in index.listing(ROOT_INODE) for name in part.names]
        assert len(set(names)) == len(paths)
        for name in names[::97]:
            attributes = index.lookup(ROOT_INODE, name)
            assert attributes is not None
            assert index.name(attributes.ino) == name
        assert [p for b in export(index) for p in b.paths] == paths


def test_captions_as_labels_do_not_fill_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossmount.index.layout.LABELS_MAX", 10)
    entries = [entry(f"f{i:04}", label=f"caption {i}" if i % 3 else None) for i in range(500)]
    build(iter([EntryBatch.of(entries)]), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        assert len(index.info().labels) <= 10
        labels = [label for batch in export(index) for label in batch.labels or ()]
        assert labels == [e.label for e in entries]
        assert index.label(index.resolve(b"f0001")) == "caption 1"


def test_a_row_larger_than_a_run_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossmount.index.layout.LABELS_MAX", 0)
    entries = [entry(f"{i:04}", label=f"{i:04}" * 5000) for i in range(300)]
    build(iter([EntryBatch.of(entries)]), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        assert [label for batch in export(index) for label in batch.labels or ()] == [
            e.label for e in entries
        ]


def test_as_many_labels_as_large_sets_have(tmp_path: Path) -> None:
    """ImageNet-21k has 21,841: the table of labels is larger than what LMDB keeps in reserve."""
    entries = [entry(f"{i:05}", label=f"n{i:08}") for i in range(22_000)]
    info = build(iter([EntryBatch.of(entries)]), tmp_path / "x.idx", source="x")
    assert len(info.labels) == len(entries)
    with open_index(tmp_path / "x.idx") as index:
        assert index.label(index.resolve(b"21999")) == "n00021999"


def test_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptySource, match="s3://b/none/ names no object"):
        build(iter([]), tmp_path / "x.idx", source="s3://b/none/")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [SourceError("no"), KeyboardInterrupt(), OSError(5, "input/output error")])
@pytest.mark.parametrize("disorder", [False, True])
def test_a_failure_leaves_nothing_and_replaces_nothing(
    tmp_path: Path, error: BaseException, disorder: bool
) -> None:
    def batches() -> Iterator[EntryBatch]:
        yield EntryBatch.of([entry("b")])
        yield EntryBatch.of([entry("a" if disorder else "c")])
        raise error

    target = tmp_path / "x.idx"
    target.write_text("what was there")
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else SourceError):
        build(batches(), target, source="x")
    assert [p.name for p in tmp_path.iterdir()] == ["x.idx"]
    assert target.read_text() == "what was there"


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'k' has the size -1"):
        build(iter([EntryBatch.of([entry("k", -1)])]), tmp_path / "x.idx", source="x")
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_place_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(IndexFileError, match="cannot write index"):
        build(iter([EntryBatch.of([entry("k")])]), blocked / "x.idx", source="x")


_KILLED = """
import os, signal, sys
from pathlib import Path
from ossmount.index import build, envelope
from ossmount.model import EntryBatch

def kill(path):
    os.kill(really, signal.SIGKILL)

really, os.getpid = os.getpid(), lambda: int(sys.argv[2])
envelope.seal = kill
batch = EntryBatch([b"a", b"b"], ["s"] * 2, ["a", "b"], [1] * 2, ["old"] * 2, [0] * 2)
build(iter([batch]), Path(sys.argv[1]), source="x")
"""


def killed_build(target: Path) -> list[Path]:
    """What a build of ``target`` leaves that is killed with everything written, and had our process id."""
    command = [sys.executable, "-c", _KILLED, str(target), str(os.getpid())]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    left = list(target.parent.iterdir())
    assert left
    assert all(path.name.startswith(f"{target.name}.tmp.") for path in left)
    return left


@pytest.mark.parametrize("name", ["x.idx", "x[1].idx"])
def test_the_next_build_sweeps_what_a_kill_left(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    dead = max(killed_build(target))
    dead.with_name(dead.name + ".sort0").write_text("a piece of its sort")
    own = tmp_path / f"{name}.tmp.backup"
    own.write_text("of the user")
    with reserved(target) as mine:
        mine.write_text("of a process that lives")
        mine.with_name(mine.name + ".sort0").write_text("a piece of its sort")
        kept = {path for path in tmp_path.iterdir() if path.name.startswith(mine.stem)}
        assert len(kept) == 3
        build(iter([EntryBatch.of([entry("k")])]), target, source="x")
        assert set(tmp_path.iterdir()) == {target, own, *kept}
    assert set(tmp_path.iterdir()) == {target, own}


def test_a_killed_build_is_not_gone_on_with(tmp_path: Path) -> None:
    """In a container each build has the same process id, so that alone makes no name."""
    target = tmp_path / "x.idx"
    killed_build(target)
    build(iter([EntryBatch.of([entry("a", etag="new")])]), target, source="x")
    with open_index(target) as index:
        assert [name for part in index.listing(ROOT_INODE) for name in part.names] == [b"a"]
        assert index.extent(index.resolve(b"a")).object.etag == "new"


def test_a_limit_of_address_space_is_kept_to(tmp_path: Path) -> None:
    """Batch systems set one for each job (``ulimit -v``)."""
    program = """
import sys, resource
from pathlib import Path
from ossmount.index import build
from ossmount.model import EntryBatch

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
batch = EntryBatch([b"a"], ["s"], ["a"], [1], [""], [0])
assert build(iter([batch]), Path(sys.argv[1]), source="x").files == 1
"""
    subprocess.run([sys.executable, "-c", program, tmp_path / "x.idx"], check=True, timeout=60)


def test_two_builds_of_one_index_do_not_meet(tmp_path: Path) -> None:
    """As in two containers that share a volume."""
    target = tmp_path / "x.idx"

    def batches() -> Iterator[EntryBatch]:
        yield EntryBatch.of([entry("a")])
        build(iter([EntryBatch.of([entry("c")])]), target, source="x")
        yield EntryBatch.of([entry("b")])

    build(batches(), target, source="x")
    with open_index(target) as index:
        assert [name for part in index.listing(ROOT_INODE) for name in part.names] == [b"a", b"b"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_build_whose_file_is_removed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossmount.index.storage._COMMIT_BYTES", 1000)

    def batches() -> Iterator[EntryBatch]:
        for batch in batches_of([b"%05d" % i for i in range(3000)]):
            yield batch
            for path in tmp_path.iterdir():
                path.unlink()

    with pytest.raises(IndexFileError, match="was removed while it was written"):
        build(batches(), tmp_path / "x.idx", source="x")
    assert list(tmp_path.iterdir()) == []


def test_what_the_file_had_before_is_noticed(tmp_path: Path) -> None:
    first = Tables(tmp_path / "x")
    first.put(RUNS, b"b", b"")
    first.finish(b"{}")
    second = Tables(tmp_path / "x")
    with pytest.raises(IndexFileError, match="rows of another build"):
        second.put(RUNS, b"a", b"")
    second.abandon()


def test_progress_says_rows_and_stage(tmp_path: Path) -> None:
    seen: list[Progress] = []
    build(batches_of([b"b", b"a"]), tmp_path / "x.idx", source="x", report=seen.append)
    assert {step.stage for step in seen} == {"sort", "index", "finish"}
    assert [step.done for step in seen if step.stage == "index"] == [2]


def test_extents_of_members_and_columns_of_other_kinds(tmp_path: Path) -> None:
    tar = ObjectId("s3://b", "shard.tar", "E" * 31, 10_000)
    batch = EntryBatch(
        paths=(b"s/1", b"s/2"), stores=("s3://b",) * 2, keys=("shard.tar",) * 2, sizes=(10_000,) * 2,
        etags=("E" * 31,) * 2, mtimes_ns=(5, 6), labels=None, offsets=(512, 2048), lengths=(100, 0),
    )  # fmt: skip
    build(iter([batch]), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        assert index.extent(index.resolve(b"s/1")) == Extent(tar, 512, 100)
        assert index.extent(index.resolve(b"s/2")) == Extent(tar, 2048, 0)
        assert [e for b in export(index) for e in b.entries()] == [
            Entry(b"s/1", Extent(tar, 512, 100), None, 5),
            Entry(b"s/2", Extent(tar, 2048, 0), None, 6),
        ]


def test_members_and_whole_objects_in_one_directory(make_index: BuildIndex) -> None:
    """Batch by batch, of which only some have extents."""
    whole, shard = ObjectId("s3://b", "whole", "e", 5), ObjectId("s3://b", "shard.tar", "e", 10_000)
    entries = [
        Entry(b"%02d" % i, Extent(shard, 512 * i, i) if 7 <= i < 14 else Extent(whole, 0, 5), None, i)
        for i in range(21)
    ]
    assert [e for b in export(make_index(entries)) for e in b.entries()] == entries


@pytest.mark.parametrize("paths", [(b"a", b"b"), (b"b", b"a")], ids=["sorted", "not sorted"])
@pytest.mark.parametrize(
    ("time", "kept"),
    [
        (253_402_300_799 * 10**9, 253_402_300_799 * 10**9),
        (-62_135_596_800 * 10**9, -62_135_596_800 * 10**9),
        (253_402_300_798_123_456_789, 253_402_300_798_123_000_000),
        (-(2**63), -(2**63)),
        (2**63, 2**63 // 10**6 * 10**6),
    ],
    ids=["year 9999", "year 1", "part of a second", "least", "one too much"],
)
def test_times_that_64_bits_do_not_hold_in_nanoseconds(
    tmp_path: Path, paths: Sequence[bytes], time: int, kept: int
) -> None:
    """A manifest may name any time of the years 1 to 9999, and so may a server."""
    entries = [Entry(path, Extent(ObjectId("s3://b", "k", "e", 1), 0, 1), None, time) for path in paths]
    build(iter([EntryBatch.of(entries)]), tmp_path / "x.idx", source="x")
    with open_index(tmp_path / "x.idx") as index:
        times = [index.attributes(index.resolve(path)).mtime_ns for path in paths]
    assert times == [kept, kept]
