"""Tables in Parquet.

What may live here: reading Parquet into rows. Who may touch it: whoever changes how columns are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from ossmount.errors import ManifestError, SourceError
from ossmount.sources.arrow_csv import rows_of, whole_numbers
from ossmount.sources.columns import BATCH_ROWS, Rows, choose_columns
from ossmount.sources.parsing import row_of
from ossmount.sources.text_file import TextFile

MAGIC = b"PAR1"

Choose = Callable[[Sequence[str]], Sequence[str]]
"""Gives for each column of a file the name it has here, "" where it is not read."""


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Parquet with a column of paths; numbers as labels become text. Lines are rows from 1."""

    mapping: Mapping[str, str]

    def rows(self, file: TextFile) -> Iterator[Rows]:
        """Raises ManifestError for a bad column or row, SourceError for a damaged file."""
        with file.open() as stream:
            yield from read_parquet(stream, file.place, self.mapping)

    def line_of(self, file: TextFile, number: int) -> int:
        """Rows, since Parquet has no lines."""
        del file
        return number + 1


def read_parquet(stream: BinaryIO, place: str, mapping: Mapping[str, str]) -> Iterator[Rows]:
    """All rows of the columns that ``mapping`` and the known names choose; see ParquetReader."""

    def choose(names: Sequence[str]) -> Sequence[str]:
        # Other columns are usual in Parquet, so none of them is an error, whatever it is called.
        own = mapping or {"key": "key" if "key" in names else "file_name"}
        return choose_columns(names, own, place)

    first = 0
    for batch in parquet_batches(stream, place, choose):
        yield checked_rows(first, batch, place)
        first += batch.num_rows


def parquet_batches(stream: BinaryIO, place: str, choose: Choose) -> Iterator[Any]:
    """Arrow batches of the chosen columns under their known names; cells are not checked yet."""
    # Imported here: a mount from an existing index must not pay for it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(stream)
        names = table.schema_arrow.names
        known = {own: name for own, name in zip(names, choose(names), strict=True) if name}
        for batch in table.iter_batches(BATCH_ROWS, columns=list(known), use_threads=False):
            yield _normalised(batch, known, place)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the latter: names of columns
        reason = str(error).splitlines()[0]
        raise SourceError(f"{place}: damaged Parquet file: {reason}", "copy or write it again") from error


def _normalised(batch: Any, known: Mapping[str, str], place: str) -> Any:
    """The batch under known names: texts without nulls, sizes as 64-bit numbers, times as they are."""
    import pyarrow as pa

    columns = {}
    for own in batch.schema.names:
        column, name = batch.column(own), known[own]
        try:
            if name == "size":
                columns[name] = _numbers(column)
            elif name == "mtime" and pa.types.is_timestamp(column.type):
                columns[name] = column
            else:
                columns[name] = column.cast(pa.string()).fill_null("")
        except (pa.ArrowException, ValueError) as error:
            raise ManifestError(
                place,
                1,
                f"the column {own!r} ({column.type}) cannot be read as {name}",
                "choose with --columns",
            ) from error
    return pa.RecordBatch.from_pydict(columns)


def _numbers(column: Any) -> Any:
    """Sizes as 64-bit numbers. Raises ValueError and ArrowException."""
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        raise ValueError("truth values are no sizes")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return whole_numbers(column.cast(pa.string()).fill_null(""))
    return column.cast(pa.int64())


def checked_rows(first: int, batch: Any, place: str) -> Rows:
    """The batch as rows. Raises ManifestError with the row, from 1, of a bad cell."""
    import pyarrow as pa

    try:
        return rows_of(first, batch)
    except (ValueError, pa.ArrowException) as error:
        # Times are left out: Python has none for those of odd zones, of nanoseconds, or of other eras.
        timed = [name for name in batch.schema.names if pa.types.is_timestamp(batch.schema.field(name).type)]
        cells = batch.drop_columns(timed)
        for position in range(batch.num_rows):
            try:
                (row,) = cells.slice(position, 1).to_pylist()
                row_of({name: "" if cell is None else str(cell) for name, cell in row.items()})
            except ValueError as precise:
                raise ManifestError(place, first + position + 1, str(precise), "correct the row") from precise
        raise ManifestError(
            place, first + 1, f"at or after this row: {error}", "correct the table"
        ) from error
