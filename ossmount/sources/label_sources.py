"""Labels from elsewhere than the source itself: ``--label-from``.

What may live here: the kinds of label sources. Who may touch it: whoever adds one, with docs/labels.md.

- ``parent``: the name of the directory in which a file is; files at the root have none.
- ``sidecar:PATTERN:JMESPATH``: a JSON object beside each file. PATTERN is its path in the tree, with
  ``{dir}`` (the file's directory), ``{up}`` (the one above), ``{name}`` and ``{stem}`` (the name without its
  last suffix); JMESPATH says where in it the label stands. ``labels/{stem}.json:category.name``.
- ``table:FILE`` or ``table:FILE#key=COLUMN,label=COLUMN``: CSV, TSV, JSON lines, Parquet or a plain
  manifest, local or a URI, by path in the tree, or by file name where the table's keys have no ``/``.

A label that is found takes the place of the source's own. Where none is found, a file has none.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import takewhile
from typing import Any, Protocol

import jmespath
from jmespath.exceptions import JMESPathError

from ossmount.errors import ManifestError, SettingsError, SourceError, StoreError
from ossmount.json_text import read_json
from ossmount.model import EntryBatch, ObjectInfo, Progress
from ossmount.protocols import OpenStore, Report, Source
from ossmount.sources.columns import parse_columns
from ossmount.sources.labels import label_fault
from ossmount.sources.readers import open_reader
from ossmount.sources.sizes import SizeFetcher
from ossmount.sources.text_file import TextFile
from ossmount.uris import shown_object

MAX_SIDECAR = 16 << 20
"""Bytes of the largest sidecar that is read: a larger one is not the description of one file."""

_FIELD = re.compile(r"\{(?:dir|up|name|stem)\}")
_REMEDY = "write parent, sidecar:labels/{stem}.json:category, or table:FILE"


class Labeller(Protocol):
    """A kind of label source."""

    def labels(self, batch: EntryBatch, report: Report) -> Sequence[str | None]:
        """The label of each row. Raises SourceError and StoreError."""
        ...

    def check(self) -> None:
        """Called behind the last row. Raises SourceError where what was found cannot be what was meant."""
        ...

    def close(self) -> None:
        """Frees threads."""
        ...


class LabelledSource:
    """A source with labels from a label source."""

    def __init__(self, source: Source, open_labeller: Callable[[], Labeller]) -> None:
        self._source, self._open = source, open_labeller

    def __repr__(self) -> str:
        return f"LabelledSource({self._source!r})"

    @property
    def description(self) -> str:
        """That of the source: where labels come from is an option of its own in the index."""
        return self._source.description

    @property
    def sorted(self) -> bool:
        """As the source: labels move nothing."""
        return self._source.sorted

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """The source's entries, labelled. Raises SourceError and StoreError."""
        with closing(self._open()) as labeller:
            for batch in self._source.batches(report):
                found = labeller.labels(batch, report)
                own = batch.labels if batch.labels is not None else [None] * len(batch)
                labels = [a if a is not None else b for a, b in zip(found, own, strict=True)]
                yield dataclasses.replace(batch, labels=labels)
            labeller.check()


def label_source(text: str, open_store: OpenStore, concurrency: int) -> Callable[[], Labeller]:
    """What makes the labeller that ``--label-from`` names; nothing is opened yet. Raises SettingsError."""
    kind, _, rest = text.partition(":")
    if text == "parent":
        return ParentLabels
    if kind == "sidecar":
        pattern, colon, expression = rest.partition(":")
        if not colon or not pattern.strip("/") or _FIELD.search(pattern) is None:
            raise SettingsError(
                f"--label-from: {text!r} has no pattern such as labels/{{stem}}.json", _REMEDY
            )
        try:
            compiled = jmespath.compile(expression)
        except JMESPathError as error:
            reason = str(error).splitlines()[0]
            raise SettingsError(f"--label-from: {expression!r} is no JMESPath: {reason}", _REMEDY) from error
        return lambda: SidecarLabels(pattern, compiled.search, open_store, concurrency)
    if kind == "table" and rest:
        place, _, columns = rest.partition("#")
        mapping = parse_columns(columns) if columns else {}
        return lambda: TableLabels(TextFile(place, open_store), mapping)
    raise SettingsError(f"--label-from: {text!r} is no label source", _REMEDY)


class ParentLabels:
    """Labels are the directories' names."""

    def labels(self, batch: EntryBatch, report: Report) -> Sequence[str | None]:
        """See :class:`Labeller`."""
        del report
        directories = [path[: path.rfind(b"/") + 1] for path in batch.paths]
        names = {directory: _directory_label(directory) for directory in set(directories)}
        return [names[directory] for directory in directories]

    def check(self) -> None:
        """Nothing can be wrong."""

    def close(self) -> None:
        """Nothing to do."""


def _directory_label(directory: bytes) -> str | None:
    name = directory[:-1].rpartition(b"/")[2].decode("utf-8", "surrogateescape")
    return None if label_fault(name) is not None else name


class TableLabels:
    """Labels joined from a table, which is held in memory (some 150 bytes a row)."""

    def __init__(self, file: TextFile, mapping: dict[str, str]) -> None:
        self._file = file
        self._by_key: dict[bytes, str] = {}
        self._matched = False
        self._example = b""
        reader = open_reader(file, mapping)
        for rows in reader.rows(file):
            if rows.labels is None:
                raise ManifestError(file.place, 1, "it has no column of labels", "say which: #label=COLUMN")
            for number, (key, label) in enumerate(zip(rows.keys, rows.labels, strict=True), rows.first):
                if label is not None and self._by_key.setdefault(_table_key(key), label) != label:
                    raise ManifestError(
                        file.place,
                        reader.line_of(file, number),
                        f"{key!r} has two labels, {self._by_key[_table_key(key)]!r} and {label!r}",
                        "remove one of the rows",
                    )
        self._by_name = not any(b"/" in key for key in self._by_key)

    def labels(self, batch: EntryBatch, report: Report) -> Sequence[str | None]:
        """See :class:`Labeller`."""
        del report
        keys = [path[path.rfind(b"/") + 1 :] for path in batch.paths] if self._by_name else batch.paths
        labels = list(map(self._by_key.get, keys))
        self._matched = self._matched or any(labels)
        self._example = self._example or next(iter(keys), b"")
        return labels

    def close(self) -> None:
        """Nothing to do."""

    def check(self) -> None:
        """Raises SourceError where no file was in the table: then the keys are of another kind."""
        if self._matched:
            return
        key = next(iter(self._by_key), b"")
        raise SourceError(
            f"{self._file.place} has a label for none of the files: its keys are like"
            f" {_shown(key)}, the files like {_shown(self._example)}",
            "make the keys paths from the root of the tree, or file names",
        )


def _shown(key: bytes) -> str:
    return repr(key.decode("utf-8", "replace"))


def _table_key(key: str) -> bytes:
    return key.removeprefix("./").encode("utf-8", "surrogateescape")


class SidecarLabels:
    """Labels out of a JSON object for each file, fetched many at once."""

    def __init__(
        self, pattern: str, search: Callable[[Any], Any], open_store: OpenStore, concurrency: int
    ) -> None:
        self._pattern, self._search, self._open_store = pattern, search, open_store
        self._fetcher = SizeFetcher(concurrency)
        self._done = self._labelled = 0
        self._last = ""

    def labels(self, batch: EntryBatch, report: Report) -> Sequence[str | None]:
        """See :class:`Labeller`."""
        places = [
            None if path.endswith(b"/") else (store, sidecar_key(self._pattern, path, key))
            for store, path, key in zip(batch.stores, batch.paths, batch.keys, strict=True)
        ]
        found: dict[tuple[str, str], str | None] = {}
        for root in sorted({place[0] for place in places if place is not None}):
            keys = sorted({place[1] for place in places if place is not None and place[0] == root})
            found |= {(root, key): label for key, label in self._read(root, keys).items()}
            self._last = shown_object(root, keys[-1])
        self._done += len(batch)
        self._labelled += sum(label is not None for label in found.values())
        report(Progress("labels", self._done, None, "objects"))
        return [found.get(place) if place is not None else None for place in places]

    def check(self) -> None:
        """Raises SourceError where no file has a sidecar with a label."""
        if not self._labelled:
            raise SourceError(
                f"no file has a sidecar with a label: the last was looked for at {self._last}",
                "check the pattern and the JMESPath of --label-from",
            )

    def close(self) -> None:
        """Ends the threads."""
        self._fetcher.close()

    def _read(self, root: str, keys: Sequence[str]) -> dict[str, str | None]:
        store = self._open_store(root)
        infos = self._fetcher.fetch(store, keys, lambda _: None)
        for info in infos.values():
            if info.size > MAX_SIDECAR:
                raise SourceError(
                    f"{shown_object(root, info.key)} has {info.size} bytes: no sidecar is that large",
                    "check the pattern of --label-from",
                )
        try:
            texts = self._fetcher.read(store, list(infos.values()))
        except StoreError as error:
            raise SourceError(f"a sidecar cannot be read: {error.message}", error.remedy) from error
        return {info.key: self._label(root, info, texts[info.key]) for info in infos.values()}

    def _label(self, root: str, info: ObjectInfo, text: bytes) -> str | None:
        place = shown_object(root, info.key)
        try:
            value = self._search(read_json(text))
        except (ValueError, JMESPathError) as error:
            raise SourceError(f"{place}: {error}", "correct the sidecar or the JMESPath") from error
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise SourceError(
                f"{place}: the label is {json.dumps(value)[:40]}, neither text nor a number",
                "let the JMESPath of --label-from name one value",
            )
        label = str(value)
        fault = label_fault(label)
        if fault is not None:
            raise SourceError(f"{place}: {fault}", "a label is the name of a directory")
        return label


def sidecar_key(pattern: str, path: bytes, key: str) -> str:
    """The key of the sidecar of the file at ``path``, whose key is ``key``.

    What the key has before the path, the sidecar has too. Where the path has something else before it, such
    as the bucket's name in a list over several, they begin where the two begin to be the same.
    """
    text = path.decode("utf-8", "surrogateescape")
    if not key.endswith(text):
        text = _common_tail(text, key) or text
    base = key.removesuffix(text)
    directory, _, name = text.rpartition("/")
    dot = name.rfind(".")
    values = {
        "{dir}": directory,
        "{up}": directory.rpartition("/")[0],
        "{name}": name,
        "{stem}": name[:dot] if dot > 0 else name,
    }
    filled = _FIELD.sub(lambda match: values[match[0]], pattern)
    # An empty field leaves a slash too many: the root has no directory.
    return base + (filled.lstrip("/") if pattern.startswith(("{dir}/", "{up}/", "/")) else filled)


def _common_tail(one: str, other: str) -> str:
    """The longest end that both have, in whole components."""
    parts = one.split("/")
    pairs = zip(reversed(parts), reversed(other.split("/")), strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return "/".join(parts[len(parts) - same :])
