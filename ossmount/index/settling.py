"""Settling a run: what each row is called, which rows merge, which are left out.

What may live here: the rules of SEMANTICS "Names" applied to rows, and the report of what they did. Who
may touch it: whoever changes those rules. The ordinary run passes through with four cheap tests.
"""

from __future__ import annotations

import json
from bisect import bisect_left

from ossmount.errors import NameRefused, SourceError
from ossmount.index import layout, names
from ossmount.index.batches import Columns
from ossmount.index.pending import Pending
from ossmount.index.rows import Rows, decode_text
from ossmount.index.runs import Run
from ossmount.index.storage import Tables
from ossmount.model import NAME_MAX

COMPONENT_MAX = 0xFFFF
"""Longest component in bytes that a run can hold; S3 ends at 1,024 bytes a key."""

_DIGITS = (8, 16, 32)
"""Digits of a duplicate's token: more only where fewer leave two equal."""


class Numbering:
    """Texts that repeat, by number."""

    def __init__(self, first: int, limit: int | None = None) -> None:
        self._numbers: dict[str, int] = {}
        self._first, self._limit = first, limit

    @property
    def texts(self) -> list[str]:
        """The texts in order of their numbers."""
        return list(self._numbers)

    def numbers(self, texts: list[str]) -> list[int] | None:
        """The numbers of ``texts``; None where the table is full and does not hold them all."""
        known = self._numbers
        if texts.count(texts[0]) == len(texts) and texts[0] in known:
            return [known[texts[0]]] * len(texts)
        for text in dict.fromkeys(texts):
            if text not in known:
                if self._limit is not None and len(known) >= self._limit:
                    return None
                known[text] = self._first + len(known)
        return [known[text] for text in texts]


class Settler:
    """Applies the rules of names. ``suspect`` says that equal paths were met and must be looked for."""

    def __init__(self, tables: Tables, on_bad_key: str, *, one_size: bool = False) -> None:
        """With ``one_size`` rows of one object that have different sizes are an error, else two files."""
        self._tables, self._on_bad_key, self._one_size = tables, on_bad_key, one_size
        self.suspect = False
        self.stores = Numbering(0)
        self.labels = Numbering(1, layout.LABELS_MAX)
        self.renames = self.merges = self.skips = 0

    def settle(self, pending: Pending, prefix: bytes, beside: set[bytes]) -> Rows:
        """Rows ready for encoding, without inode numbers; ``prefix`` is the directory's path in the tree."""
        displays: dict[int, bytes] = {}
        if self._needs_care(pending) or beside:
            displays = self._settle_carefully(pending, prefix, beside)
        return self._rows(pending, displays)

    def _needs_care(self, pending: Pending) -> bool:
        found = pending.sort_keys
        text = b"".join(found)
        return (
            b"%" in text
            or b"\0" in text
            or max(map(len, found)) >= NAME_MAX
            or found[0] <= b"/"  # '', '.' and '..' cannot stand behind it
            or (self.suspect and len(set(found)) < len(found))
        )

    def _settle_carefully(self, pending: Pending, prefix: bytes, beside: set[bytes]) -> dict[int, bytes]:
        if self.suspect:
            self._merge_identical(pending, prefix)
        if self._on_bad_key != "escape":
            self._leave_out(pending, prefix)
        displays: dict[int, bytes] = {}
        found = pending.sort_keys
        row = 0
        while row < len(found):
            end = row + 1
            while end < len(found) and found[end] == found[row]:
                end += 1
            self._name_group(pending, range(row, end), beside, prefix, displays)
            row = end
        return displays

    def _merge_identical(self, pending: Pending, prefix: bytes) -> None:
        """Orders rows of one path by identity and merges equal ones; the newest time stays."""
        kept: list[int] = []
        order = sorted(
            range(len(pending.sort_keys)), key=lambda i: (pending.sort_keys[i], pending.identity(i))
        )
        for row in order:
            last = kept[-1] if kept else None
            if (
                last is not None
                and pending.sort_keys[last] == pending.sort_keys[row]
                and pending.identity(last) == pending.identity(row)
            ):
                pending.mtimes[last] = max(pending.mtimes[last], pending.mtimes[row])
                self.merges += 1
                self._report("merge", _uri(pending, row), prefix + pending.sort_keys[row], "listed twice")
            else:
                kept.append(row)
        pending.keep(kept)

    def _leave_out(self, pending: Pending, prefix: bytes) -> None:
        """Skips or refuses files whose component cannot be a name."""
        kept = []
        for row, sort_key in enumerate(pending.sort_keys):
            if sort_key.endswith(b"/") or not names.is_impossible(sort_key):
                kept.append(row)
            else:
                self._refuse(_uri(pending, row), prefix + sort_key, names.why(sort_key))
        pending.keep(kept)

    def _refuse(self, key: str, path: bytes, reason: str) -> None:
        if self._on_bad_key == "fail":
            raise NameRefused(f"object {key!r} cannot be a file: {reason}", "use --on-bad-key escape or skip")
        self.skips += 1
        self._report("skip", key, path, reason)

    def _name_group(
        self, pending: Pending, rows: range, beside: set[bytes], prefix: bytes, displays: dict[int, bytes]
    ) -> None:
        """Names the rows of one path."""
        if self._one_size and len(rows) > 1:
            pending.check_sizes(rows)
        sort_key = pending.sort_keys[rows[0]]
        if sort_key.endswith(b"/"):
            if not names.is_plain(sort_key[:-1]):
                displays[rows[0]] = names.fit(names.escape(sort_key[:-1]))
            return
        if len(sort_key) > COMPONENT_MAX:
            raise SourceError(
                f"a name in {_uri(pending, rows[0])!r:.200} is too long", "leave the object out"
            )
        plain = names.is_plain(sort_key)
        base = sort_key if plain else names.escape(sort_key)
        reason = "" if plain else names.why(sort_key)
        if sort_key in beside:
            beside.discard(sort_key)
            self._rename(pending, rows[0], names.beside_directory(sort_key), prefix, displays, _BESIDE)
        elif not plain:
            self._rename(pending, rows[0], base, prefix, displays, reason)
        for row, token in zip(rows[1:], _tokens(pending, rows[1:]), strict=True):
            self._rename(
                pending, row, names.with_token(base, token), prefix, displays, "another object has the path"
            )

    def _rename(
        self, pending: Pending, row: int, name: bytes, prefix: bytes, displays: dict[int, bytes], reason: str
    ) -> None:
        displays[row] = names.fit(name)
        self.renames += 1
        self._report("rename", _uri(pending, row), prefix + displays[row], reason)

    def rename_beside(self, rows: Rows, row: int, directory: int, prefix: bytes) -> None:
        """Renames a written object that turned out to stand beside a directory of its name."""
        sort_key = rows.sort_keys[row]
        name = names.beside_directory(sort_key)
        if row not in rows.displays:
            self.renames += 1
        rows.displays = {**rows.displays, row: name}
        self._tables.put(layout.ALIASES, layout.ino_key(directory) + name, layout.ino_key(rows.inos[row]))
        store = self.stores.texts[rows.stores[row]]
        self._report("rename", f"{store}/{rows.keys[row]}", prefix + name, _BESIDE)

    def directory_name(self, component: bytes, prefix: bytes, shown: bytes) -> bytes | None:
        """A new directory's name; None where what is below it must be skipped.

        ``prefix`` is its wished path, ``shown`` the parent's path in the tree.
        """
        if names.is_plain(component):
            return component
        if self._on_bad_key != "escape" and names.is_impossible(component):
            if self._on_bad_key == "fail":
                self._refuse(prefix.decode("utf-8", "replace"), prefix, names.why(component))
            return None
        name = names.fit(names.escape(component))
        self.renames += 1
        key = prefix.decode("utf-8", "surrogateescape")
        self._report("rename", key, shown + name + b"/", names.why(component))
        return name

    def skip_below(self, columns: Columns, row: int) -> int:
        """Skips the rows below a directory that cannot have a name; gives the first row behind them."""
        components = columns.paths[row].split(b"/")
        bad = next(i for i, part in enumerate(components) if names.is_impossible(part))
        below = b"/".join(components[: bad + 1])
        end = bisect_left(columns.paths, below + b"0", row)
        for skipped in range(row, end):
            uri = f"{columns.stores[skipped]}/{columns.keys[skipped]}"
            self._refuse(uri, columns.paths[skipped], names.why(components[bad]))
        return end

    def add_aliases(self, rows: Rows, directory: int) -> None:
        """Makes display names known to look-ups."""
        parent = layout.ino_key(directory)
        for row, name in rows.displays.items():
            self._tables.put(layout.ALIASES, parent + name, layout.ino_key(rows.inos[row]))

    def _rows(self, pending: Pending, displays: dict[int, bytes]) -> Rows:
        if not pending.sort_keys:
            return Rows([], [], [], [], [], [], [], [])
        count = len(pending.labels)
        labels = self._label_numbers(pending.labels)
        return Rows(
            pending.sort_keys, [], pending.sizes, pending.mtimes,
            self._store_numbers(pending), pending.keys, pending.etags,
            labels if labels is not None else [0] * count,
            None if labels is not None else pending.labels, pending.offsets, pending.lengths, displays,
        )  # fmt: skip

    def _store_numbers(self, pending: Pending) -> list[int]:
        stores = pending.stores
        if pending.directory_inos:
            filler = next((store for store in stores if store), None)
            if filler is None:
                return [0] * len(stores)
            stores = [store or filler for store in stores]
        return self.stores.numbers(stores) or []

    def _label_numbers(self, labels: list[str | None]) -> list[int] | None:
        if labels.count(None) == len(labels):
            return [0] * len(labels)
        if None not in labels:
            return self.labels.numbers(labels)  # type: ignore[arg-type]
        known = [label for label in labels if label is not None]
        numbers = self.labels.numbers(known)
        if numbers is None:
            return None
        waiting = iter(numbers)
        return [0 if label is None else next(waiting) for label in labels]

    def carry(self, what: str, key: str, name: bytes, reason: str) -> None:
        """Takes over a merge or skip of an earlier pass."""
        self.merges += what == "merge"
        self.skips += what == "skip"
        self._report(what, key, name, reason)

    def _report(self, what: str, key: str, name: bytes, reason: str) -> None:
        self._tables.add_report(json.dumps((what, key, decode_text(name), reason)).encode())


_BESIDE = "a directory has the name"


def _uri(pending: Pending, row: int) -> str:
    return f"{pending.stores[row]}/{pending.keys[row]}"


def _tokens(pending: Pending, rows: range) -> list[bytes]:
    """Different tokens for different objects of one path."""
    identities = [repr(pending.identity(row)).encode() for row in rows]
    tokens: list[bytes] = []
    for digits in _DIGITS:
        tokens = [names.duplicate_token(identity, digits) for identity in identities]
        if len(set(tokens)) == len(tokens):
            break
    return tokens


def rows_of_run(run: Run) -> Rows:
    """A written run as rows again."""
    cold = run.cold()
    labels = cold.labels()
    texts = any(isinstance(label, str) for label in labels)
    extents = bool(run.flags & layout.HAS_EXTENTS)
    return Rows(
        run.sort_keys(), run.inos(), run.sizes(), run.mtimes_ns(), cold.stores(), cold.keys(), cold.etags(),
        [0] * run.count if texts else labels,  # type: ignore[arg-type]
        labels if texts else None,  # type: ignore[arg-type]
        cold.offsets() if extents else None, cold.lengths() if extents else None, cold.displays(),
    )  # fmt: skip
