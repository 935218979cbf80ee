"""Views: from the entries of an index to the entries of another tree. Pure.

What may live here: transforms ``Iterator[EntryBatch] -> Iterator[EntryBatch]``, column by column. Who may
touch it: whoever measures the rate before and after (``tests/bench``; filters run at a million rows a
second). A split or a shard that comes out differently for the same description needs a new version of
:mod:`ossmount.sources.view_description`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, compress
from typing import Any

import xxhash

from ossmount.errors import EmptySource, SourceError
from ossmount.model import EntryBatch
from ossmount.protocols import Report, Source
from ossmount.sources.globs import compile_globs
from ossmount.sources.labels import UNLABELLED
from ossmount.sources.view_description import ViewDescription, shares_of

_SHARD_SEED = 0x5348_4152_445F_0001
"""Mixed into the seed for shards, so that a shard holds its share of every split."""

_SEED_BITS = (1 << 64) - 1
_NEAREST = 3
"""Labels named where one is unknown; more would not fit a line."""

_MAX_SEEN = 100_000
"""Labels remembered; where there are more, an unknown one is not told from one without files."""

Batches = Iterator[EntryBatch]
Predicate = Callable[[EntryBatch], Sequence[object]]
"""For each row of a batch something true where it is kept."""


def apply_view(view: ViewDescription, batches: Batches, source: str = "the source") -> Batches:
    """The entries that ``view`` shows of ``source``, under the paths it gives them.

    Directory markers are not shown. Raises EmptySource where nothing is left and SourceError for a label
    that no entry has.
    """
    empty = True
    for batch in _placed(view, _shard(view, _filtered(view, batches))):
        empty = False
        yield batch
    if empty:
        chosen = " ".join(f"--{name.replace('_', '-')} {text}" for name, text in view.options().items())
        raise EmptySource(
            f"no file of {source} is left by {chosen or 'this view'}", "loosen the filters, or give labels"
        )


class ViewedSource:
    """A source as a view shows it."""

    def __init__(self, source: Source, view: ViewDescription) -> None:
        self._source, self._view = source, view

    def __repr__(self) -> str:
        return f"ViewedSource({self._source!r}, {self._view!r})"

    @property
    def description(self) -> str:
        """That of the source: what the view asks for are options of their own in the index."""
        return self._source.description

    @property
    def sorted(self) -> bool:
        """Where the source is and the view moves nothing."""
        return self._source.sorted and keeps_order(self._view)

    def batches(self, report: Report) -> Batches:
        """As :func:`apply_view`, besides what the source raises."""
        return apply_view(self._view, self._source.batches(report), self.description)


def union(parts: Sequence[tuple[str, Batches]]) -> Batches:
    """Several trees in one: each below its name, or merged into the root where the name is empty."""
    for name, batches in parts:
        start = name.encode("utf-8", "surrogateescape") + b"/" if name else b""
        for batch in batches:
            yield dataclasses.replace(batch, paths=[start + p for p in batch.paths]) if start else batch


def keeps_order(view: ViewDescription) -> bool:
    """Whether sorted entries stay sorted, so that the derived index needs no sort."""
    return view.layout == "keys" and len(view.splits) < 2


def _filtered(view: ViewDescription, batches: Batches) -> Batches:
    predicates = list(_predicates(view))
    seen: set[str | None] = set()
    for batch in batches:
        if view.label and len(seen) < _MAX_SEEN and batch.labels is not None:
            seen.update(batch.labels)
        kept: EntryBatch | None = batch
        for predicate in predicates:
            kept = None if kept is None else _pick(kept, predicate(kept))
        if kept is not None:
            yield kept
    for label in view.label:
        if label not in seen and len(seen) < _MAX_SEEN:
            raise _unknown_label(label, [text for text in seen if text is not None])


def _predicates(view: ViewDescription) -> Iterator[Predicate]:
    """The cheap ones first."""
    yield lambda batch: [not path.endswith(b"/") for path in batch.paths]
    if view.label:
        labels = frozenset(view.label)
        yield lambda batch: [label in labels for label in batch.labels or [None] * len(batch)]
    if view.min_size is not None or view.max_size is not None:
        sizes = range(view.min_size or 0, (1 << 63) if view.max_size is None else view.max_size + 1)
        yield lambda batch: [
            length in sizes for length in (batch.sizes if batch.lengths is None else batch.lengths)
        ]
    if view.suffix:
        yield _ends(view.suffix)
    if view.include:
        included = compile_globs(view.include, "--include")
        yield lambda batch: list(map(included, batch.paths))
    if view.exclude:
        excluded = compile_globs(view.exclude, "--exclude")
        yield lambda batch: [match is None for match in map(excluded, batch.paths)]


def _ends(suffixes: Sequence[str]) -> Predicate:
    """Whether a path ends with one of them, in whatever case. Bytes know no other capitals than ASCII's."""
    texts = tuple(suffix.lower() for suffix in suffixes)
    if all(map(str.isascii, texts)):
        ends = tuple(map(str.encode, texts))
        return lambda batch: [path.lower().endswith(ends) for path in batch.paths]
    return lambda batch: [
        path.decode("utf-8", "surrogateescape").lower().endswith(texts) for path in batch.paths
    ]


def _pick(batch: EntryBatch, mask: Sequence[object]) -> EntryBatch | None:
    """The rows where ``mask`` is true; None where there are none."""
    if all(mask):
        return batch if len(batch) else None
    if not any(mask):
        return None

    def pick(column: Sequence[Any] | None) -> list[Any] | None:
        return None if column is None else list(compress(column, mask))

    return EntryBatch(**{field.name: pick(getattr(batch, field.name)) for field in _COLUMNS})  # type: ignore[arg-type]


_COLUMNS = dataclasses.fields(EntryBatch)


def _shard(view: ViewDescription, batches: Batches) -> Batches:
    if view.shard is None:
        yield from batches
        return
    number, count = view.shard
    seed = (view.seed ^ _SHARD_SEED) & _SEED_BITS
    for batch in batches:
        kept = _pick(batch, [digest % count == number for digest in _digests(batch, seed)])
        if kept is not None:
            yield kept


def _digests(batch: EntryBatch, seed: int) -> list[int]:
    digest = xxhash.xxh3_64_intdigest
    return [digest(path, seed) for path in batch.paths]


def _placed(view: ViewDescription, batches: Batches) -> Batches:
    """New paths: the layout, then the directory of the split, which hangs on the path as it was."""
    for batch in batches:
        kept: EntryBatch | None = batch
        if view.layout == "labels" and view.unlabelled == "skip":
            kept = _pick(batch, [label is not None for label in batch.labels or [None] * len(batch)])
        if kept is None:
            continue
        starts = _split_starts(view, kept)
        paths = _labelled_paths(kept) if view.layout == "labels" else kept.paths
        if starts is not None:
            paths = [start + path for start, path in zip(starts, paths, strict=True)]
        yield kept if paths is kept.paths else dataclasses.replace(kept, paths=paths)


def _labelled_paths(batch: EntryBatch) -> list[bytes]:
    labels = batch.labels if batch.labels is not None else [None] * len(batch)
    starts = {
        label: (UNLABELLED if label is None else label).encode("utf-8", "surrogateescape") + b"/"
        for label in set(labels)
    }
    return [
        starts[label] + path[path.rfind(b"/") + 1 :] for label, path in zip(labels, batch.paths, strict=True)
    ]


def _split_starts(view: ViewDescription, batch: EntryBatch) -> list[bytes] | None:
    if not view.splits:
        return None
    # The first 64-bit number that is no longer the split's; exact for every share.
    ends = [int(total * (1 << 64)) for total in accumulate(shares_of(view.splits))]
    names = [name.encode("utf-8", "surrogateescape") + b"/" for name, _ in view.splits]
    seed = view.seed & _SEED_BITS
    digests = _digests(batch, seed)
    starts = [names[-1]] * len(batch)
    for end, name in reversed(list(zip(ends, names, strict=True))):
        starts = [name if digest < end else start for digest, start in zip(digests, starts, strict=True)]
    return starts


def _unknown_label(label: str, known: Sequence[str]) -> SourceError:
    near = difflib.get_close_matches(label, known, _NEAREST, 0.5) or sorted(known)[:_NEAREST]
    names = ", ".join(map(repr, near))
    return SourceError(
        f"--label: no file has the label {label!r}",
        f"the nearest are {names}" if near else "nothing here has a label",
    )
