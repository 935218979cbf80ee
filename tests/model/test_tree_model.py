"""The tree against a plain dict: any set of keys, nothing lost, every way of asking agrees."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ossmount.index import LmdbIndex, build, compare, export, names, open_index, report
from ossmount.model import ROOT_INODE, Attributes, Entry, EntryBatch, Extent, FileRef, Kind, ObjectId

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - hundreds of builds, each with fsync

FULL_RUN, TINY_RUN = 16_368, 150
"""Bytes of a run: as in life, and so few that a directory of five has several runs."""

component = st.one_of(
    st.sampled_from(
        [b"", b".", b"..", b"a", b"b", b"a.txt", b"a%file", b"%2E", b"%empty", b"a\0", b"L" * 256, b"M" * 600]
    ),
    st.text(alphabet="ab.-/%é\n ", min_size=1, max_size=4).map(str.encode),
)
path = st.lists(component, min_size=1, max_size=4).map(b"/".join)
size = st.sampled_from([0, 1, 2, 300, 70_000, 1 << 33])
label = st.sampled_from([None, "cat", "dog"])
etag = st.sampled_from(["d41d8cd98f00b204e9800998ecf8427e", "D41D8CD98F00B204E9800998ECF8427F", "x-2", ""])
time = st.sampled_from([0, 10**18, 10**18 + 5 * 10**6, 10**18 + 1, -(10**9)])


@st.composite
def an_entry(draw: st.DrawFn) -> Entry:
    where = draw(path)
    key = draw(
        st.one_of(st.just("p/" + where.decode("utf-8", "surrogateescape")), st.sampled_from(["k", "z/é"]))
    )
    length = draw(size)
    offset = draw(st.sampled_from([0, 0, 0, 512]))
    identity = ObjectId(draw(st.sampled_from(["s3://b", "oss://c"])), key, draw(etag), offset + length)
    return Entry(where, Extent(identity, offset, length), draw(label), draw(time))


entries_of = st.lists(an_entry(), min_size=1, max_size=25)


def made(folder: str, entries: list[Entry], name: str = "x", previous: LmdbIndex | None = None) -> LmdbIndex:
    target = Path(folder) / name
    batches = (EntryBatch.of(entries[i : i + 5]) for i in range(0, len(entries), 5))
    run_bytes = FULL_RUN if len(entries) % 2 else TINY_RUN
    with mock.patch("ossmount.index.tree_writer.RUN_BYTES", run_bytes):
        build(batches, target, source="model", previous=previous)
    return open_index(target)


def is_marker(entry: Entry) -> bool:
    return not entry.path.rsplit(b"/", 1)[-1] and entry.extent.length == 0


def tree(index: LmdbIndex) -> dict[bytes, Attributes]:
    """Every path of the tree, checked against every other way to ask for it."""
    found: dict[bytes, Attributes] = {}
    todo = [(ROOT_INODE, b"")]
    while todo:
        directory, prefix = todo.pop()
        children = [child for chunk in index.children(directory) for child in chunk]
        assert len({child.name for child in children}) == len(children)
        columns = [row for part in index.listing(directory) for row in zip(*part, strict=True)]
        assert columns == [(child.name, *child.attributes) for child in children]
        for position, (name, attributes) in enumerate(children):
            assert not names.is_impossible(name)
            assert index.lookup(directory, name) == attributes
            assert index.attributes(attributes.ino) == attributes
            assert index.parent(attributes.ino) == directory
            assert index.path_of(attributes.ino) == prefix + name
            rest = [child for chunk in index.children(directory, attributes.ino) for child in chunk]
            assert rest == children[position + 1 :]
            found[prefix + name] = attributes
            if attributes.kind is Kind.DIRECTORY:
                todo.append((attributes.ino, prefix + name + b"/"))
    return found


def shape(index: LmdbIndex) -> dict[bytes, Attributes]:
    """The tree without inode numbers: they depend on where runs end."""
    return {where: attributes._replace(ino=0) for where, attributes in tree(index).items()}


def facts(index: LmdbIndex, ino: int) -> tuple[Extent, str | None]:
    return index.extent(ino), index.label(ino)


@given(entries_of)
@settings(max_examples=100, deadline=None)
@example([Entry(b"a", Extent(ObjectId("s3://b", "k", "", 0), 0, 0), None, 0)] * 2)
def test_nothing_is_lost(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, made(folder, entries) as index:
        found = tree(index)
        files = {where: a for where, a in found.items() if a.kind is Kind.FILE}
        wished = {(e.extent, e.label) for e in entries if not is_marker(e)}
        assert {facts(index, a.ino) for a in files.values()} == wished
        assert len(files) == len(wished_files(entries)) == index.info().files
        assert index.info().total_bytes == sum(a.size for a in files.values())
        assert index.info().directories == len(found) - len(files)
        for where, attributes in files.items():
            assert attributes.size == index.extent(attributes.ino).length
            for renamed in (b"%dup-", b"%file", b"%long-", b"%00", b"%25", b"%2E", b"%empty"):
                if renamed in where.rsplit(b"/", 1)[-1]:
                    assert where in {row.name for row in report(index) if row.what == "rename"}


def wished_files(entries: list[Entry]) -> set[tuple[bytes, Extent, str | None]]:
    return {(e.path, e.extent, e.label) for e in entries if not is_marker(e)}


@given(entries_of)
@settings(max_examples=40, deadline=None)
def test_files_below_come_in_order_from_any_point(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, made(folder, entries) as index:
        files = [ref for chunk in index.files(ROOT_INODE) for ref in chunk]
        sizes = {a.ino: a.size for a in tree(index).values() if a.kind is Kind.FILE}
        assert {FileRef(ino, length) for ino, length in sizes.items()} == set(files)
        assert len(files) == len(sizes)
        for position, ref in enumerate(files):
            rest = [r for chunk in index.files(ROOT_INODE, ref.ino) for r in chunk]
            assert rest == files[position + 1 :]


@given(entries_of, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_and_batches_of_the_input_do_not_matter(entries: list[Entry], random: object) -> None:
    shuffled = entries.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as folder,
        made(folder, sorted(entries, key=lambda e: e.path), "sorted") as one,
        made(folder, shuffled, "shuffled") as two,
    ):
        assert shape(one) == shape(two)
        assert [list(b.entries()) for b in export(one)] == [list(b.entries()) for b in export(two)]
        assert sorted(report(one)) == sorted(report(two))
        assert one.meta["counts"] == two.meta["counts"]


@given(entries_of)
@settings(max_examples=40, deadline=None)
def test_an_export_builds_the_same_tree(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, made(folder, entries, "one") as one:
        again = [e for batch in export(one, directories=True) for e in batch.entries()]
        with made(folder, again, "two") as two:
            assert shape(one) == shape(two)
            assert not list(compare(one, two))
        files = [e for batch in export(one) for e in batch.entries()]
        assert len(files) == one.info().files
        assert [e.path for e in files] == sorted(e.path for e in files)
        assert {(e.path, e.extent, e.label) for e in files} == wished_files(entries)


@given(entries_of, entries_of, st.lists(st.booleans(), min_size=25, max_size=25))
@settings(max_examples=100, deadline=None)
def test_a_generation_keeps_the_numbers_of_what_stays_and_of_nothing_else(
    entries: list[Entry], more: list[Entry], stay: list[bool]
) -> None:
    later = [entry for entry, keep in zip(entries, stay, strict=False) if keep] + more
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as folder,
        made(folder, entries, "old") as old,
        made(folder, later, "new", old) as new,
    ):
        before, after = tree(old), tree(new)
        assert new.info().generation == old.info().generation + 1
        numbers = [a.ino for a in after.values()]
        assert len(set(numbers)) == len(numbers)
        known = {a.ino: a for a in before.values()}
        for attributes in after.values():
            if attributes.ino in known:
                assert same_content(old, new, known[attributes.ino], attributes)
        for where in before.keys() & after.keys():
            one, two = before[where], after[where]
            if one.kind is two.kind and same_content(old, new, one, two):
                assert one.ino == two.ino
        check_changes(old, new, before, after)


def same_content(old: LmdbIndex, new: LmdbIndex, one: Attributes, two: Attributes) -> bool:
    """Whether a file kept its content, as far as the store tells; a directory has none to lose."""
    if one.kind is not two.kind or one.kind is Kind.DIRECTORY:
        return one.kind is two.kind
    extent = old.extent(one.ino)
    return extent == new.extent(two.ino) and (bool(extent.object.etag) or one.mtime_ns == two.mtime_ns)


def check_changes(
    old: LmdbIndex, new: LmdbIndex, before: dict[bytes, Attributes], after: dict[bytes, Attributes]
) -> None:
    """``compare`` says what the two dicts say."""
    said: dict[tuple[str, bytes], int] = {}
    for change in compare(old, new):
        assert (change.kind.value, change.path) not in said
        said[change.kind.value, change.path] = change.ino
        index = old if change.kind.value == "gone" else new
        assert index.path_of(change.ino) == change.path
        assert index.name(change.ino) == change.name
    true: dict[tuple[str, bytes], int] = {}
    for where in before.keys() | after.keys():
        one, two = before.get(where), after.get(where)
        if one is not None and (two is None or two.kind is not one.kind):
            true["gone", where] = one.ino
        if two is not None and (one is None or two.kind is not one.kind):
            true["added", where] = two.ino
        elif one is not None and two is not None and two.kind is Kind.FILE:
            same = facts(old, one.ino) == facts(new, two.ino) and one.mtime_ns == two.mtime_ns
            same = same and one.ino == two.ino
            if not same:
                true["changed", where] = two.ino
    assert said == true
