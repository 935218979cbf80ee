"""The LMDB file while it is written: tables, ordered appends, bounded memory, translated errors.

What may live here: everything that writes through lmdb. Who may touch it: whoever knows
docs/index-format.md.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb

from ossmount.errors import IndexFileError
from ossmount.index import layout

_MAP_SIZE = 1 << 40
"""Address space while writing, not disk: the file grows page by page, and readers map what there is. Where it
is limited (``ulimit -v``, as batch systems do) half of what is allowed has to do."""

_PAGE = 4096

_COMMIT_BYTES = 32 << 20
"""LMDB keeps dirty pages in memory until a commit; this bounds them."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns LMDB's and the system's errors into IndexFileError."""
    try:
        yield
    except lmdb.Error as error:
        raise IndexFileError(
            f"cannot write index {path}: {error}", "check space on its disk, and limits of memory (ulimit -v)"
        ) from error
    except OSError as error:
        raise IndexFileError(
            f"cannot write index {path}: {error.strerror or error}", "check space and permissions"
        ) from error


def _map_size() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return _MAP_SIZE if limit == resource.RLIM_INFINITY else min(_MAP_SIZE, limit // 2 // _PAGE * _PAGE)


class Tables:
    """The tables of an index file that is being written. Not an index before :meth:`finish`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        self._last = dict.fromkeys(layout.TABLES, b"")
        self._dirty = 0
        self._reports = 0

    def _open(self) -> None:
        self._env: Any = lmdb.open(
            str(self._path), subdir=False, map_size=_map_size(), max_dbs=len(layout.TABLES),
            lock=False, sync=False, metasync=False, readahead=False,
        )  # fmt: skip
        self._handles = {name: self._env.open_db(name) for name in layout.TABLES}
        self._txn: Any = self._env.begin(write=True)

    def put(self, table: bytes, key: bytes, value: bytes) -> None:
        """Stores ``value``; keys that come in order are appended, which fills pages."""
        in_order = key > self._last[table]
        if not self._txn.put(key, value, db=self._handles[table], append=in_order):
            raise IndexFileError(f"index {self._path} has rows of another build", "build it again")
        if in_order:
            self._last[table] = key
        self._dirty += len(key) + len(value)
        if self._dirty > _COMMIT_BYTES:
            self._commit()

    def run_before(self, directory: int, sort_key: bytes) -> tuple[bytes, bytes] | None:
        """Key and value of the written run of ``directory`` where ``sort_key`` would stand."""
        target = layout.run_key(directory, sort_key)
        with self._txn.cursor(self._handles[layout.RUNS]) as cursor:
            found = cursor.set_range(target)
            if not (found and cursor.key() == target) and not (cursor.prev() if found else cursor.last()):
                return None
            key, value = cursor.item()
        return (key, value) if key[:8] == target[:8] else None

    def add_report(self, row: bytes) -> None:
        """Appends a row of the report."""
        self.put(layout.REPORT, layout.ino_key(self._reports), row)
        self._reports += 1

    def finish(self, info: bytes) -> None:
        """Writes ``info`` and closes the file."""
        self.put(layout.META, layout.INFO_KEY, info)
        self._txn.commit()
        self._env.close()

    def abandon(self) -> None:
        """Closes without finishing."""
        with suppress(lmdb.Error):
            self._txn.abort()
        self._env.close()

    def _commit(self) -> None:
        """Commits, and opens the file anew: its mapping would otherwise grow as large as the file."""
        self._txn.commit()
        last_page = self._env.info()["last_pgno"]
        self._env.close()
        self._open()
        if self._env.info()["last_pgno"] != last_page:  # LMDB makes a file that is not there
            raise IndexFileError(f"index {self._path} was removed while it was written", "build it again")
        self._dirty = 0
