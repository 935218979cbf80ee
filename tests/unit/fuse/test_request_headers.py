"""The request that is being handled, found in the memory of the session loop that handles it."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator

import pytest

from ossmount.errors import FileSystemError
from ossmount.fuse.request_headers import OPEN, READ, RequestHeaders, of_loop

INODE, THREAD = 4711, 99
LENGTH = 64


class Loop:
    """What a session loop is for who searches it: variables in what it refers to, one of them a pointer."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(LENGTH)
        self.variables = [ctypes.c_uint64(word) for word in (0, 1, 1 << 63, ctypes.addressof(self.buffer))]

    def receive(self, opcode: int, inode: int, handle: int = 0, offset: int = 0, size: int = 0) -> None:
        request = struct.pack("=IIQQIIIIQQI", LENGTH, opcode, 1, inode, 0, 0, THREAD, 0, handle, offset, size)
        ctypes.memmove(self.buffer, request, len(request))


@pytest.fixture
def headers() -> Iterator[RequestHeaders]:
    made = RequestHeaders()
    yield made
    made.close()


@pytest.mark.trio
async def test_requests_are_found_and_found_again(headers: RequestHeaders) -> None:
    loop = Loop()
    with of_loop(loop.variables):
        loop.receive(OPEN, INODE)
        assert headers.tells(INODE, THREAD)
        loop.receive(READ, 7, offset=4096, size=100)
        assert headers.inode_of_read(4096, 100) == 7
        loop.receive(OPEN, 8)
        assert headers.tells(8, THREAD)


@pytest.mark.trio
async def test_a_read_is_found_without_an_open_before_it(headers: RequestHeaders) -> None:
    loop = Loop()
    with of_loop(loop.variables):
        loop.receive(READ, INODE, offset=1 << 40, size=1 << 20)
        assert headers.inode_of_read(1 << 40, 1 << 20) == INODE


@pytest.mark.trio
async def test_nothing_else_is_taken_for_it(headers: RequestHeaders) -> None:
    loop = Loop()
    with of_loop(loop.variables):
        loop.receive(OPEN, INODE)
        assert not headers.tells(INODE + 1, THREAD)
        assert not headers.tells(INODE, THREAD + 1)
        loop.receive(READ, INODE, handle=INODE, offset=1, size=2)
        assert not headers.tells(INODE, THREAD)
        for offset, size in ((1, 2), (1, 3), (2, 2)):
            with pytest.raises(FileSystemError, match="cannot be found"):
                headers.inode_of_read(offset, size)


@pytest.mark.trio
async def test_who_handles_no_request_finds_none(headers: RequestHeaders) -> None:
    assert not headers.tells(INODE, THREAD)
    loop = Loop()
    with of_loop(loop.variables):
        loop.receive(OPEN, INODE)
    assert not headers.tells(INODE, THREAD), "the loop has ended"


@pytest.mark.trio
async def test_where_memory_cannot_be_read_nothing_is_told(headers: RequestHeaders) -> None:
    loop = Loop()
    headers.close()
    with of_loop(loop.variables):
        loop.receive(OPEN, INODE)
        assert not headers.tells(INODE, THREAD)
