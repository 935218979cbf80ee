"""External sort: entries in any order to entries in order of their paths, in bounded memory.

What may live here: everything about sorting, and the only use of pyarrow in the room. Who may touch it:
whoever measures rows per second and memory before and after.

Sorted pieces are spilled as Arrow files and merged block by block: in each step every piece gives its rows
up to the smallest last path of all loaded blocks, and these are sorted together. Where there are too many
pieces for one block of each in memory, some are merged into a larger one first. Comparisons happen in
Arrow only; a merge with a heap in Python would cost more than the whole build.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ossmount.index.batches import Columns
from ossmount.index.rows import decode_text, encode_text
from ossmount.model import EntryBatch

_PIECE_BYTES = 64 << 20
"""Size of a piece in memory; sorting one needs about three times as much for a moment."""

_BLOCK_ROWS = 8192
"""Rows of a block: one block of each piece is in memory while merging."""

_FAN_IN = 32
"""Pieces that are merged at once: their blocks take 50 MB. Ten million rows have fewer, so each row is
written once; a hundred million are written twice."""

_SCHEMA = pa.schema(
    [("path", pa.binary()), ("store", pa.int32()), ("key", pa.binary()), ("size", pa.int64()),
     ("etag", pa.binary()), ("mtime", pa.int64()), ("label", pa.binary()), ("offset", pa.int64()),
     ("length", pa.int64()), ("far", pa.int64())]
)  # fmt: skip
"""A time is ``mtime``, in nanoseconds; with ``far``, in seconds, null unless 64 bits would not do."""

_SECOND = 1_000_000_000


class Sorter:
    """Takes batches in any order and gives them back sorted. Its files are gone after ``close``."""

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._waiting: list[Any] = []
        self._bytes = 0
        self._levels: list[list[Path]] = [[]]
        self._written = 0
        self._stores: dict[str, int] = {}
        self.rows = 0

    def __enter__(self) -> Sorter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, batch: EntryBatch) -> None:
        """Takes a batch."""
        block = self._block(Columns.of(batch))
        self._waiting.append(block)
        self._bytes += block.nbytes
        self.rows += block.num_rows
        if self._bytes >= _PIECE_BYTES:
            self._spill()

    def merged(self) -> Iterator[EntryBatch]:
        """Everything in order of the paths."""
        if not self._written:
            yield from self._batches(self._sorted_table())
            return
        self._spill()
        for table in _merged([piece for level in self._levels for piece in level]):
            yield from self._batches(table)

    def close(self) -> None:
        """Removes the spilled pieces."""
        self._waiting.clear()
        for number in range(self._written):
            self._piece(number).unlink(missing_ok=True)

    def _block(self, columns: Columns) -> Any:
        count = len(columns.paths)
        numbers = self._stores
        for store in set(columns.stores):
            numbers.setdefault(store, len(numbers))
        labels = columns.labels
        mtimes, far = _times(columns.mtimes)
        return pa.record_batch(
            [
                pa.array(columns.paths, pa.binary()),
                pa.array([numbers[store] for store in columns.stores], pa.int32()),
                _texts(columns.keys), pa.array(columns.sizes, pa.int64()), _texts(columns.etags),
                mtimes,
                _texts(labels) if labels is not None else pa.nulls(count, pa.binary()),
                pa.array(columns.offsets or [0] * count, pa.int64()),
                pa.array(columns.lengths or columns.sizes, pa.int64()),
                far,
            ],
            schema=_SCHEMA,
        )  # fmt: skip

    def _sorted_table(self) -> Any:
        table = _sort(pa.Table.from_batches(self._waiting, _SCHEMA))
        self._waiting.clear()
        self._bytes = 0
        return table

    def _spill(self) -> None:
        if not self._waiting:
            return
        self._write([self._sorted_table()], level=0)
        pa.default_memory_pool().release_unused()

    def _write(self, tables: Iterable[Any], level: int) -> None:
        """Writes sorted tables as a piece; a full level becomes one piece of the next."""
        piece = self._piece(self._written)
        self._written += 1
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(piece), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA, options=options) as writer:
            for table in tables:
                writer.write_table(table, max_chunksize=_BLOCK_ROWS)
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(piece)
        if len(self._levels[level]) == _FAN_IN:
            full, self._levels[level] = self._levels[level], []
            self._write(_merged(full), level + 1)
            for old in full:
                old.unlink()

    def _piece(self, number: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}.sort{number}")

    def _batches(self, table: Any) -> Iterator[EntryBatch]:
        stores = list(self._stores)
        for block in table.to_batches(max_chunksize=_BLOCK_ROWS):
            *plain, far = block.columns
            paths, numbers, keys, sizes, etags, mtimes, labels, offsets, lengths = map(_values, plain)
            if far.null_count < len(far):
                mtimes = [
                    mtime + (second or 0) * _SECOND
                    for mtime, second in zip(mtimes, far.to_pylist(), strict=True)
                ]
            texts = None if block.column(6).null_count == len(paths) else _decode_labels(labels)
            yield EntryBatch(
                paths, [stores[number] for number in numbers], _decode(keys), sizes, _decode(etags), mtimes,
                texts, offsets, lengths,
            )  # fmt: skip


def _merged(pieces: Sequence[Path]) -> Iterator[Any]:
    """Tables that follow each other in order, of some thousand rows each."""
    with ExitStack() as stack:
        cursors = [_Cursor(stack.enter_context(pa.OSFile(str(piece)))) for piece in pieces]
        while cursors := [cursor for cursor in cursors if cursor.load()]:
            bound = min(cursor.last for cursor in cursors)
            yield _sort(pa.Table.from_batches([cursor.take_to(bound) for cursor in cursors], _SCHEMA))


class _Cursor:
    """A position in a spilled piece."""

    def __init__(self, file: Any) -> None:
        self._reader = pa.ipc.open_file(file)
        self._next = 0
        self._block: Any = None
        self.last = b""

    def load(self) -> bool:
        """Makes sure that there are rows; False at the end."""
        if self._block is None:
            if self._next >= self._reader.num_record_batches:
                return False
            self._block = self._reader.get_batch(self._next)
            self._next += 1
            self.last = self._block.column(0)[-1].as_py()
        return True

    def take_to(self, bound: bytes) -> Any:
        """The rows whose paths are not greater than ``bound``."""
        block = self._block
        if self.last <= bound:
            self._block = None
            return block
        paths = block.column(0)
        end = bisect_right(range(len(paths)), bound, key=lambda row: paths[row].as_py())
        self._block = block.slice(end)
        return block.slice(0, end)


def _sort(table: Any) -> Any:
    return table.take(pc.sort_indices(table, sort_keys=[("path", "ascending")]))


def _times(column: list[int]) -> tuple[Any, Any]:
    try:
        return pa.array(column, pa.int64()), pa.nulls(len(column), pa.int64())
    except OverflowError:
        seconds, rest = zip(*(divmod(time, _SECOND) for time in column), strict=True)
        return pa.array(rest, pa.int64()), pa.array(seconds, pa.int64())


def _texts(column: list[Any]) -> Any:
    try:
        return pa.array(column, pa.binary())
    except UnicodeEncodeError:  # bytes that are no UTF-8, as surrogates
        return pa.array([None if text is None else encode_text(text) for text in column], pa.binary())


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    return values


def _decode(texts: list[bytes]) -> list[str]:
    return [decode_text(text) for text in texts]


def _decode_labels(texts: list[bytes | None]) -> list[str | None]:
    return [None if text is None else decode_text(text) for text in texts]
