"""Tables at a million rows a second: the fast reader beside :mod:`ossmount.sources.parsing`.

What may live here: pyarrow's CSV reader and checks of whole columns. Who may touch it: whoever changes
the rules of tables; it must accept nothing that the row parser refuses. It only says *that* something
is wrong (ValueError); the row parser then says where and what.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ossmount.sources.columns import (
    EARLIEST_SECOND,
    LATEST_SECOND,
    UNKNOWN_SIZE,
    Rows,
    clean_etag,
    parse_mtime,
)
from ossmount.sources.labels import label_fault
from ossmount.sources.parsing import BOM, Table

_BLOCK = 1 << 20
"""Bytes parsed at once: some ten thousand rows, which is also the size of the batches."""


def is_well_quoted(stream: BinaryIO, delimiter: str) -> bool:
    """Whether every quoted cell begins and ends with its cell, and every line with a newline.

    Where it is not so, Arrow says nothing: a quote that is never closed makes one cell of all rows behind
    it. The row parser refuses that, and takes a quote within a cell that is not quoted for what it is.
    """
    ends = re.escape(delimiter.encode())
    odd = re.compile(rb'"(?:(?<=[^%b\n"]")|(?=[^%b\r\n"]))|\r(?=[^\n])' % (ends, ends))
    quoted, last = False, b"\n"
    if stream.read(len(BOM)) != BOM:  # a quoted header may follow it
        stream.seek(0)
    while chunk := stream.read(_BLOCK):
        if quoted or b'"' in chunk or b"\r" in chunk or last in b'"\r':
            outside, quoted = _without_cells(chunk, quoted)
            if odd.search(last + outside):
                return False
            last = (last + outside)[-1:]
        else:
            last = chunk[-1:]
    return not quoted


def _without_cells(text: bytes, quoted: bool) -> tuple[bytes, bool]:
    """What is outside of quotes, with one quote for each cell in them, and whether it ends in such a cell.

    ``quoted``: it begins in one, whose quote was given before. A doubled quote is two cells side by side.
    """
    parts = text.split(b'"')
    ends_quoted = quoted is (len(parts) % 2 == 1)
    begins_another = ends_quoted and (len(parts) > 1 or not quoted)
    outside = b'"'.join(parts[1::2] if quoted else parts[::2])
    return outside + b'"' if begins_another else outside, ends_quoted


def read_table(stream: BinaryIO, form: Table) -> Iterator[Rows]:
    """All rows of an open :class:`~ossmount.sources.text_file.TextFile`.

    Raises ValueError where anything is not as it should be, OSError where the compression is damaged.
    """
    first = 0
    for batch in table_batches(stream, form):
        yield rows_of(first, batch)
        first += batch.num_rows


def table_batches(stream: BinaryIO, form: Table) -> Iterator[Any]:
    """Arrow batches of the columns that are read, none empty; cells are not checked yet."""
    # Imported here: a mount from an existing index must not pay for it (40 MB, 0.2 s).
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    # Columns that are not read have no name; Arrow wants one.
    names = [name or f"\0{position}" for position, name in enumerate(form.columns)]
    known = [name for name in form.columns if name]
    types = dict.fromkeys(known, pa.string())
    reader = pa_csv.open_csv(
        _native(stream),
        pa_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK, column_names=names, skip_rows=int(form.header)
        ),
        pa_csv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True),
        pa_csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=False, include_columns=known
        ),
    )
    for batch in reader:
        if batch.num_rows:
            yield batch


def whole_numbers(texts: Any) -> Any:
    """A column of texts as 64-bit numbers, null where empty. Raises ValueError, also for Arrow's ``0x1f``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.ascii_trim(texts, " ")
    if pc.any(pc.match_substring(texts, "x", ignore_case=True)).as_py():
        raise ValueError("a number is not decimal")
    return pc.if_else(pc.equal(texts, ""), None, texts).cast(pa.int64())


def _native(stream: BinaryIO) -> Any:
    """The same file from its beginning, for Arrow to read without the interpreter.

    Arrow reads ahead in a thread of its own, which nothing ends: one that wants the interpreter while that
    shuts down, after an error or Ctrl-C, aborts the process.
    """
    import pyarrow as pa

    # A name of the kernel's gives an open file of its own, which lives as long as that thread needs it.
    raw = pa.OSFile(f"/proc/self/fd/{stream.fileno()}")
    return pa.CompressedInputStream(raw, "gzip") if isinstance(stream, gzip.GzipFile) else raw


def rows_of(first: int, batch: Any) -> Rows:
    """An Arrow batch of known columns, texts without nulls. Raises ValueError for a bad cell."""
    names = batch.schema.names
    keys = _texts(batch, "key")
    if "" in keys or any("\0" in key for key in keys):
        raise ValueError("a path is empty or contains a NUL")
    return Rows(
        first,
        keys,
        _labels(_texts(batch, "label")) if "label" in names else None,
        _sizes(batch) if "size" in names else None,
        _etags(_texts(batch, "etag")) if "etag" in names else None,
        _mtimes(batch) if "mtime" in names else None,
    )


def _texts(batch: Any, name: str) -> list[str]:
    # Through numpy: twice as fast as Arrow's own to_pylist.
    texts: list[str] = batch.column(name).to_numpy(zero_copy_only=False).tolist()
    return texts


def _sizes(batch: Any) -> list[int]:
    import pyarrow as pa

    column = batch.column("size")
    if pa.types.is_string(column.type):
        column = whole_numbers(column)
    sizes: list[int] = column.fill_null(UNKNOWN_SIZE).to_numpy().tolist()
    # What is unknown is exactly what is null; any other negative number is an error.
    if min(sizes) < 0 and sum(size < 0 for size in sizes) != column.null_count:
        raise ValueError("a size is negative")
    return sizes


def _labels(texts: list[str]) -> list[str | None]:
    labels: dict[str, str | None] = {text: text or None for text in set(texts)}
    for label in labels.values():
        fault = label_fault(label) if label is not None else None
        if fault is not None:
            raise ValueError(fault)
    return [labels[text] for text in texts]


def _etags(texts: list[str]) -> list[str]:
    odd = any(text[:1] in {'"', " "} or text[-1:] in {'"', " "} for text in texts)
    if odd or not "".join(texts).isprintable():
        return [clean_etag(text) for text in texts]
    return texts


def _mtimes(batch: Any) -> list[int]:
    import pyarrow as pa

    column = batch.column("mtime")
    if pa.types.is_timestamp(column.type):
        times: list[int] = column.cast(pa.timestamp("ns")).cast(pa.int64()).fill_null(0).to_numpy().tolist()
        return times
    try:
        seconds: list[int] = whole_numbers(column).fill_null(0).to_numpy().tolist()
    except ValueError:
        # Times repeat (exports write one time for many rows), so each is parsed once.
        known = {text: parse_mtime(text) for text in set(_texts(batch, "mtime"))}
        return [known[text] for text in _texts(batch, "mtime")]
    if max(seconds) > LATEST_SECOND or min(seconds) < EARLIEST_SECOND:
        raise ValueError("a time is out of range")
    return [second * 1_000_000_000 for second in seconds]
