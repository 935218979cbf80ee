"""From sorted entries to runs: one pass, bounded memory.

What may live here: the walk along sorted paths, inode numbers, directory totals. What a row is called
stands in :mod:`settling`, how a run is stored in :mod:`runs`. Who may touch it: whoever measures the rate
before and after; the loops here are why ten million rows take half a minute and not ten.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import le, lt

from ossmount.index import layout
from ossmount.index.batches import Columns
from ossmount.index.generations import PreviousTree
from ossmount.index.layout import RUN_BYTES, RUNS, SORT_KEY_MAX
from ossmount.index.pending import Pending
from ossmount.index.rows import Rows
from ossmount.index.runs import Run
from ossmount.index.settling import Settler, rows_of_run
from ossmount.index.storage import Tables
from ossmount.model import ROOT_INODE, EntryBatch

_FIRST_ROW_BYTES = 60.0
"""Guess of a row's size before the first run is written."""

_FILL = 0.985
"""Part of RUN_BYTES that a run aims at: rows vary, and a run that just misses wastes most of a page."""

_STRIDE_MIN, _STRIDE_MAX = 16, 8192
"""Rows looked at in one step; small after a step that met a subdirectory, as the rest of it was wasted."""


@dataclass(slots=True)
class Frame:
    """A directory on the way from the root to where the stream stands."""

    ino: int
    sort_key: bytes
    prefix: bytes
    shown: bytes
    """``prefix`` in the names of the tree."""
    end: bytes
    """A bytes string greater than every path below the directory and less than the next one's."""
    previous: int
    """Its inode number in the previous generation, 0 where it was not there."""
    pending: Pending = field(default_factory=Pending)
    subdirectories: int = 0
    newest: int | None = None
    written: bool = False
    beside: set[bytes] = field(default_factory=set)
    """Names of pending objects beside which a directory of the same name stands."""


class TreeWriter:
    """Takes batches in order of their paths and writes the tables."""

    def __init__(self, tables: Tables, settler: Settler, previous: PreviousTree | None = None) -> None:
        self._tables, self._settler, self._previous = tables, settler, previous
        self._next_ino = previous.next_ino if previous is not None else ROOT_INODE + 1
        root = Frame(ROOT_INODE, b"", b"", b"", b"", ROOT_INODE if previous is not None else 0)
        self._stack = [root]
        self._last = b""
        self._row_bytes = _FIRST_ROW_BYTES
        self._stride = _STRIDE_MIN
        self.files = self.directories = self.total_bytes = self.rows = 0

    @property
    def next_ino(self) -> int:
        """The first inode number that was never given."""
        return self._next_ino

    def accepts(self, paths: Sequence[bytes]) -> bool:
        """True where ``paths`` go on in order."""
        return not paths or (self._last <= paths[0] and all(map(le, paths, islice(paths, 1, None))))

    def feed(self, batch: EntryBatch) -> None:
        """Adds a batch whose paths :meth:`accepts`."""
        columns = Columns.of(batch)
        paths = columns.paths
        if not paths:
            return
        columns.check_sizes()
        if self._last == paths[0] or not all(map(lt, paths, islice(paths, 1, None))):
            self._settler.suspect = True
        row, count = 0, len(paths)
        while row < count:
            frame = self._enter(paths[row])
            row = self._take(frame, columns, row) if frame else self._settler.skip_below(columns, row)
        self._last = paths[-1]
        self.rows += count

    def finish(self) -> tuple[int, int]:
        """Writes what is pending; gives the root's links and newest time."""
        while len(self._stack) > 1:
            self._leave()
        root = self._stack[0]
        self._flush(root, final=True)
        return 2 + root.subdirectories, root.newest or 0

    def _enter(self, path: bytes) -> Frame | None:
        """Leaves and opens directories until the top of the stack is that of ``path``; None: refused."""
        while not path.startswith(self._stack[-1].prefix):
            self._leave()
        frame = self._stack[-1]
        start = len(frame.prefix)
        while (slash := path.find(b"/", start)) >= 0:
            opened = self._open(frame, path[start:slash], path[: slash + 1])
            if opened is None:
                return None
            frame, start = opened, slash + 1
        return frame

    def _open(self, parent: Frame, component: bytes, prefix: bytes) -> Frame | None:
        name = self._settler.directory_name(component, prefix, parent.shown)
        if name is None:
            return None
        self._rename_object_beside(parent, component)
        sort_key = component + b"/"
        previous = 0
        if parent.previous and self._previous is not None:
            previous = self._previous.directory(parent.previous, name)
        ino = previous or self._fresh()
        self._tables.put(layout.INODES, layout.ino_key(ino), layout.directory_value(parent.ino, sort_key))
        parent.pending.add_directory(sort_key, ino)
        parent.subdirectories += 1
        self.directories += 1
        frame = Frame(ino, sort_key, prefix, parent.shown + name + b"/", prefix[:-1] + b"0", previous)
        self._stack.append(frame)
        return frame

    def _fresh(self) -> int:
        self._next_ino += 1
        return self._next_ino - 1

    def _leave(self) -> None:
        frame = self._stack.pop()
        self._flush(frame, final=True)
        parent = self._stack[-1]
        newest = frame.newest or 0
        parent.pending.close_directory(2 + frame.subdirectories, newest)
        parent.newest = newest if parent.newest is None else max(parent.newest, newest)
        self._flush(parent)

    def _take(self, frame: Frame, columns: Columns, row: int) -> int:
        """Moves rows of one directory to its pending rows; gives the first row that was not moved."""
        paths, start = columns.paths, len(frame.prefix)
        end = min(row + self._stride, len(paths))
        if frame.end:
            end = bisect_left(paths, frame.end, row, end)
        found = [path[start:] for path in paths[row:end]]
        if not found[0]:  # a directory marker, or an object with an empty name; both are rare
            if self._is_marker(columns, row):
                self._see_times(frame, columns.mtimes[row : row + 1])
                return row + 1
            del found[1:]
        elif b"/" in b"".join(found):
            del found[next(i for i, name in enumerate(found) if b"/" in name) :]
            self._stride = _STRIDE_MIN
        else:
            self._stride = min(2 * self._stride, _STRIDE_MAX)
        end = row + len(found)
        frame.pending.add_files(found, columns, row, end)
        self._see_times(frame, columns.mtimes[row:end])
        self._flush(frame)
        return end

    @staticmethod
    def _is_marker(columns: Columns, row: int) -> bool:
        return not (columns.lengths if columns.lengths is not None else columns.sizes)[row]

    @staticmethod
    def _see_times(frame: Frame, times: list[int]) -> None:
        newest = max(times)
        frame.newest = newest if frame.newest is None else max(frame.newest, newest)

    def _rename_object_beside(self, frame: Frame, component: bytes) -> None:
        """If ``component`` is also an object of the directory, that object gets another name."""
        waiting = frame.pending.sort_keys
        at = bisect_left(waiting, component)
        if at < len(waiting) and waiting[at] == component:
            frame.beside.add(component)
        elif frame.written and at == 0:
            written = self._tables.run_before(frame.ino, component)
            if written is not None:
                self._rename_written(frame, component, *written)

    def _rename_written(self, frame: Frame, component: bytes, key: bytes, value: bytes) -> None:
        run = Run(value)
        row = run.row_of(component)
        if row < 0:
            return
        rows = rows_of_run(run)
        self._settler.rename_beside(rows, row, frame.ino, frame.shown)
        self._tables.put(RUNS, key, rows.encode())

    def _flush(self, frame: Frame, *, final: bool = False) -> None:
        """Writes full runs, or all that is pending where no more rows can come."""
        pending, done = frame.pending, 0
        have = len(pending.sort_keys)
        while done < have:
            count = max(1, int(RUN_BYTES * _FILL / self._row_bytes))
            if have - done <= count:
                if not final:
                    break
                count = have - done
            else:
                count = self._separable(pending.sort_keys, done, count)
                if done + count >= have and not final:
                    break
            self._write(frame, pending.slice(done, done + count))
            done += count
        pending.drop(done)

    @staticmethod
    def _separable(sort_keys: list[bytes], start: int, count: int) -> int:
        """At least ``count`` rows such that the next run's key differs from every key of this one."""
        end = start + count
        while end < len(sort_keys) and sort_keys[end][:SORT_KEY_MAX] == sort_keys[end - 1][:SORT_KEY_MAX]:
            end += 1
        return end - start

    def _write(self, frame: Frame, pending: Pending) -> None:
        rows = self._settler.settle(pending, frame.shown, frame.beside)
        if not rows.sort_keys:
            return
        key = layout.run_key(frame.ino, rows.sort_keys[0])
        self._number(frame, rows, pending.directory_inos, key)
        self._settler.add_aliases(rows, frame.ino)
        files = len(rows.sort_keys) - len(pending.directory_inos)
        self.files += files
        lengths = rows.lengths if rows.lengths is not None else rows.sizes
        self.total_bytes += sum(lengths)
        if pending.directory_inos:  # their column of sizes holds links
            self.total_bytes -= sum(lengths[row] for row in _directory_rows(rows))
        value = rows.encode()
        self._tables.put(RUNS, key, value)
        frame.written = True
        if len(rows.sort_keys) >= 2 * _STRIDE_MIN:
            self._row_bytes = len(value) / len(rows.sort_keys)

    def _number(self, frame: Frame, rows: Rows, directories: list[int], key: bytes) -> None:
        """Gives inode numbers to the rows and writes where they are found."""
        count = len(rows.sort_keys)
        if not frame.previous or self._previous is None:
            base = self._next_ino
            rows.inos = list(range(base, base + count))
            self._next_ino += count
            if len(directories) < count:
                self._tables.put(layout.INODES, layout.ino_key(base), layout.span_value(count, 0, key))
            for row, ino in zip(_directory_rows(rows), directories, strict=True):
                rows.inos[row] = ino
            return
        self._number_after(frame.previous, rows, directories, key)

    def _number_after(self, previous: int, rows: Rows, directories: list[int], key: bytes) -> None:
        """The same with the numbers that the previous generation gave."""
        if self._previous is None:
            return
        known = self._previous.unchanged(previous, rows, self._settler.stores.texts)
        waiting = iter(directories)
        spans: list[list[int]] = []
        for row, sort_key in enumerate(rows.sort_keys):
            if sort_key.endswith(b"/"):
                rows.inos.append(next(waiting))
                continue
            ino = known.get(row) or self._fresh()
            rows.inos.append(ino)
            last = spans[-1] if spans else None
            if last is not None and ino == last[0] + last[1] and row == last[2] + last[1]:
                last[1] += 1
            else:
                spans.append([ino, 1, row])
        for ino, count, row in spans:
            self._tables.put(layout.INODES, layout.ino_key(ino), layout.span_value(count, row, key))


def _directory_rows(rows: Rows) -> list[int]:
    return [row for row, key in enumerate(rows.sort_keys) if key.endswith(b"/")]
