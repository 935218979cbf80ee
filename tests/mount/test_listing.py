"""Large directories: all names, positions that mean the same to every worker, many readers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.support.fake_filesystem import wide_tree
from tests.support.mounting import Mounted, mounted, needs_fuse

pytestmark = [pytest.mark.fuse, needs_fuse, pytest.mark.timeout(90)]

EXPECTED = sorted(path.partition("/")[2] for path in wide_tree())


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    factory = "tests.support.fake_filesystem:serve_wide"
    with mounted(tmp_path_factory.mktemp("wide"), factory, 2) as mount:
        yield mount.path / "wide"


def test_every_name_once_and_in_order(wide: Path) -> None:
    assert [path.name for path in wide.iterdir()] == EXPECTED


def test_concurrent_readers(wide: Path) -> None:
    with ProcessPoolExecutor(8, mp_context=get_context("spawn")) as pool:
        for names in pool.map(os.listdir, [wide] * 16, timeout=60):
            assert names == EXPECTED


class Dirent(ctypes.Structure):
    _fields_ = (
        ("ino", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.opendir.restype = ctypes.c_void_p
LIBC.readdir.restype = ctypes.POINTER(Dirent)
LIBC.telldir.restype = ctypes.c_long
for function in (LIBC.readdir, LIBC.telldir, LIBC.closedir, LIBC.rewinddir):
    function.argtypes = [ctypes.c_void_p]
LIBC.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def test_seekdir_returns_to_every_position_of_telldir(wide: Path) -> None:
    directory = LIBC.opendir(os.fsencode(wide))
    try:
        positions = []
        while True:
            position = LIBC.telldir(directory)
            entry = LIBC.readdir(directory)
            if not entry:
                break
            positions.append((position, entry.contents.name))
        assert [name.decode() for _, name in positions] == EXPECTED
        for position, name in positions[::-977]:
            LIBC.seekdir(directory, position)
            assert LIBC.readdir(directory).contents.name == name
        LIBC.rewinddir(directory)
        assert LIBC.readdir(directory).contents.name.decode() == EXPECTED[0]
    finally:
        LIBC.closedir(directory)


def test_attributes_come_with_the_listing(wide: Path, mount: Callable[..., Mounted]) -> None:
    fresh = mount("serve_wide", 1).path
    with os.scandir(fresh / "wide") as entries:
        sizes = {entry.stat().st_size for entry in entries}
    assert sizes == {10}
    assert int(os.getxattr(fresh, "user.fake.lookups")) <= 2, "no LOOKUP for a listed name"
