"""Translation of requests without a mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyfuse3
import pytest
import trio

from ossmount.config import MountSettings
from ossmount.errors import ObjectChanged, StoreUnavailable
from ossmount.fuse.brief_listings import ASKS_OFTEN, Detail
from ossmount.fuse.introducing import Introductions
from ossmount.fuse.operations import Operations
from ossmount.fuse.unasked import UnaskedOpens
from ossmount.model import ROOT_INODE
from tests.support.fake_filesystem import MTIME_NS, FakeFileSystem, content

THREAD = 4711
CONTEXT = cast("pyfuse3.RequestContext", SimpleNamespace(pid=THREAD))
SIZES = {"dir/a": 5, "dir/sub/b": 6, "file": 5000}


def serving(fs: FakeFileSystem | None = None, **settings: Any) -> Operations:
    operations = Operations.for_settings(MountSettings(**settings))
    operations.bind(fs or FakeFileSystem(SIZES))
    return operations


def answer(request: Awaitable[Any]) -> Any:
    async def ask() -> Any:
        return await request

    return trio.run(ask)


def refused(request: Awaitable[Any]) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        answer(request)
    return caught.value.errno


def test_attributes_follow_the_settings() -> None:
    operations = serving(uid=7, gid=8, file_mode=0o440, dir_mode=0o550, attr_timeout=60.0)
    found = answer(operations.lookup(ROOT_INODE, b"file", CONTEXT))
    assert (found.st_mode, found.st_uid, found.st_gid) == (0o100440, 7, 8)
    assert (found.st_size, found.st_blocks, found.st_nlink) == (5000, 10, 1)
    assert (found.st_mtime_ns, found.st_atime_ns, found.st_ctime_ns) == (MTIME_NS,) * 3
    assert (found.entry_timeout, found.attr_timeout) == (60.0, 60.0)
    directory = answer(operations.getattr(ROOT_INODE, CONTEXT))
    assert (directory.st_ino, directory.st_mode, directory.st_nlink) == (1, 0o040550, 3)
    assert (found.st_blksize, directory.st_blksize) == (1 << 20, 128 << 10)


def test_answers_do_not_inherit_from_each_other() -> None:
    operations = serving()
    first = answer(operations.lookup(ROOT_INODE, b"file", CONTEXT)).__getstate__()
    answer(operations.lookup(ROOT_INODE, b"dir", CONTEXT))
    answer(operations.lookup(ROOT_INODE, b"absent", CONTEXT))
    assert answer(operations.lookup(ROOT_INODE, b"file", CONTEXT)).__getstate__() == first


def test_an_absent_name_is_an_entry_without_inode_that_is_kept() -> None:
    found = answer(serving().lookup(ROOT_INODE, b"absent", CONTEXT))
    assert found.st_ino == 0
    assert found.entry_timeout == MountSettings().attr_timeout


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_open_for_writing(flags: int) -> None:
    assert refused(serving().open(2, flags, CONTEXT)) == errno.EROFS


def test_handles_are_inode_numbers() -> None:
    operations = serving()
    opened = answer(operations.open(3, os.O_RDONLY, CONTEXT))
    assert (opened.fh, opened.keep_cache) == (3, True)
    assert answer(operations.opendir(2, CONTEXT)) == 2 | Detail.ALL


def test_who_introduces_is_told_all_and_others_what_they_want() -> None:
    introductions = Introductions(1, Path("/mnt"))
    told = list[int]()

    class Told(FakeFileSystem):
        def listed(self, ino: int) -> None:
            told.append(ino)

    operations = Operations.for_settings(MountSettings())
    operations.bind(Told(SIZES), introductions=introductions)
    assert answer(operations.opendir(2, CONTEXT)) == 2 | Detail.LATER
    for _ in range(ASKS_OFTEN):
        answer(operations.lookup(ROOT_INODE, b"file", CONTEXT))
    assert answer(operations.opendir(2, CONTEXT)) == 2 | Detail.ALL
    assert told == [2, 2]

    introductions.begin(0, THREAD)
    assert answer(operations.opendir(3, CONTEXT)) == 3 | Detail.ALL
    assert told == [2, 2], "a prefetcher is no program"

    introductions.begin(0, THREAD + 1)
    introductions.fail(PermissionError("no"))
    other = cast("pyfuse3.RequestContext", SimpleNamespace(pid=1))
    assert answer(operations.opendir(2, other)) == 2 | Detail.ALL, "nobody would introduce what it opens"


def test_directories_are_looked_up_by_who_only_wants_names() -> None:
    operations = Operations.for_settings(MountSettings())
    operations.bind(FakeFileSystem(SIZES), introductions=Introductions(1, Path("/mnt")))
    answer(operations.opendir(2, CONTEXT))
    for _ in range(ASKS_OFTEN):
        answer(operations.lookup(ROOT_INODE, b"dir", CONTEXT))
        answer(operations.lookup(ROOT_INODE, b"absent", CONTEXT))
    assert answer(operations.opendir(2, CONTEXT)) == 2 | Detail.LATER


def test_what_a_read_fetched_beyond_its_answer_is_pushed() -> None:
    fs, pushed, called = FakeFileSystem(SIZES, pushes=True), list[Any](), list[str]()
    ino = fs.lookup(ROOT_INODE, b"file").ino
    operations = Operations.for_settings(MountSettings())
    operations.bind(
        fs,
        waits=lambda: called.append("waits"),
        waited=lambda: called.append("waited"),
        push=lambda *push: pushed.append(push),
    )
    whole = content("file", 5000)
    assert answer(operations.read(ino, 0, 4096)) == whole[:4096]
    assert pushed == [(ino, 4096, whole[4096:])]
    assert answer(operations.read(ino, 4096, 4096)) == whole[4096:]
    assert (len(pushed), called) == (1, ["waits", "waited"] * 2)


def test_a_read_of_what_is_at_hand_is_quick() -> None:
    fs, called = FakeFileSystem(SIZES), list[str]()
    ino = fs.lookup(ROOT_INODE, b"file").ino
    fs.at_hand.add(ino)
    operations = Operations.for_settings(MountSettings())
    operations.bind(fs, quick=lambda: called.append("quick"), waits=lambda: called.append("waits"))
    assert answer(operations.read(ino, 10, 20)) == content("file", 5000)[10:30]
    assert (fs.reads, called) == (0, ["quick"])


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ObjectChanged("changed"), errno.ESTALE, 0),
        (StoreUnavailable("away"), errno.EIO, 0),
        (KeyError("bug"), errno.EIO, 1),
    ],
)
def test_errors_become_errnos_and_bugs_are_logged(
    caplog: pytest.LogCaptureFixture, error: Exception, code: int, lines: int
) -> None:
    fs = FakeFileSystem(SIZES, failures={"file": error})
    ino = fs.lookup(ROOT_INODE, b"file").ino
    operations = serving(fs)
    assert [refused(operations.read(ino, 0, 10)) for _ in range(2)] == [code, code]
    assert len(caplog.records) == lines


@pytest.mark.parametrize("fails", [False, True])
def test_whoever_waits_goes_on_also_after_an_error(fails: bool) -> None:
    class Arriving(FakeFileSystem):
        def opened(self, ino: int) -> Any:
            return self._arrive

        async def _arrive(self) -> None:
            called.append("arrives")
            if fails:
                raise StoreUnavailable("away")

    called = list[str]()
    fs = Arriving(SIZES, failures={"file": StoreUnavailable("away")} if fails else {})
    ino = fs.lookup(ROOT_INODE, b"file").ino
    operations = Operations.for_settings(MountSettings())
    operations.bind(fs, waits=lambda: called.append("waits"), waited=lambda: called.append("waited"))
    for request in (operations.open(ino, os.O_RDONLY, CONTEXT), operations.read(ino, 0, 10)):
        if fails:
            assert refused(request) == errno.EIO
        else:
            answer(request)
    assert called == ["waits", "arrives", "waited", "waits", "waited"]


def test_errors_of_the_tree() -> None:
    fs = FakeFileSystem(SIZES)
    operations, ino = serving(fs), fs.lookup(ROOT_INODE, b"file").ino
    assert refused(operations.lookup(ino, b"x", CONTEXT)) == errno.ENOTDIR
    assert refused(operations.getattr(999, CONTEXT)) == errno.ENOENT
    assert refused(operations.read(ROOT_INODE, 0, 1)) == errno.EISDIR
    assert refused(operations.readdir(ino, 0, cast("Any", None))) == errno.ENOTDIR
    assert refused(operations.getxattr(ino, b"user.none", CONTEXT)) == errno.ENODATA
    assert refused(operations.readlink(ino, CONTEXT)) == errno.EINVAL
    assert refused(operations.open(999, os.O_RDONLY, CONTEXT)) == errno.ENOENT


WRITERS = (
    *("setattr", "mknod", "mkdir", "unlink", "rmdir", "symlink", "rename", "link", "create", "write"),
    *("setxattr", "removexattr"),
)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_is_refused(writer: str) -> None:
    assert refused(getattr(serving(), writer)(1, b"x", None)) == errno.EROFS


@pytest.mark.parametrize("request_name", ["flush", "fsync"])
def test_flush_and_fsync_stay_unknown_to_the_kernel(request_name: str) -> None:
    arguments = (1,) if request_name == "flush" else (1, False)
    assert refused(getattr(serving(), request_name)(*arguments)) == errno.ENOSYS


def test_every_request_of_pyfuse3_is_decided_on() -> None:
    undecided = {"flush", "fsync", "fsyncdir", "poll", "stacktrace", "init"}
    requests = {name for name in vars(pyfuse3.Operations) if not name.startswith("_")}
    requests -= {"supports_dot_lookup", "enable_writeback_cache", "enable_acl"}
    assert requests - undecided <= set(vars(Operations))


class Headers:
    """Tells that every READ is of the file ``ino``, or nothing."""

    def __init__(self, ino: int, *, legible: bool = True) -> None:
        self.ino, self.legible, self.asked = ino, legible, 0

    def tells(self, inode: int, thread: int) -> bool:
        self.asked += 1
        return self.legible and (inode, thread) == (self.ino, THREAD)

    def inode_of_read(self, offset: int, size: int) -> int:
        return self.ino


def settled(*, legible: bool = True, allowed: bool = True) -> tuple[Operations, FakeFileSystem, Headers]:
    """Operations on files whose opens say nothing."""
    fs = FakeFileSystem(SIZES, opens_matter=False)
    headers = Headers(fs.lookup(ROOT_INODE, b"file").ino, legible=legible)
    operations = Operations.for_settings(MountSettings())
    operations.bind(fs, unasked=UnaskedOpens(fs, headers, allowed=allowed))
    return operations, fs, headers


def test_a_kernel_whose_opens_say_nothing_is_told_not_to_ask() -> None:
    operations, fs, headers = settled()
    assert refused(operations.open(headers.ino, os.O_RDONLY, CONTEXT)) == errno.ENOSYS
    assert fs.ended == 1
    assert answer(operations.read(0, 10, 20)) == content("file", 5000)[10:30]
    assert fs.unasked == 1
    assert answer(operations.read(headers.ino, 10, 20)) == content("file", 5000)[10:30]
    assert fs.unasked == 1, "it was opened before"


def test_a_kernel_whose_reads_would_not_be_understood_goes_on_to_ask() -> None:
    operations, fs, headers = settled(legible=False)
    for _ in range(3):
        assert answer(operations.open(headers.ino, os.O_RDONLY, CONTEXT)).fh == headers.ino
    assert (headers.asked, fs.ended) == (1, 0)


def test_opens_may_be_asked_always() -> None:
    operations, fs, headers = settled(allowed=False)
    assert answer(operations.open(headers.ino, os.O_RDONLY, CONTEXT)).fh == headers.ino
    assert (headers.asked, fs.ended) == (0, 0)


def test_a_read_without_a_handle_that_nobody_expects_is_an_error() -> None:
    assert refused(serving().read(0, 0, 10)) == errno.ENOENT
