"""The token: one holder at a time, restored only when it died with its holder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.fuse import accept
from ossmount.fuse.accept import Acceptor, Token, _survive


def test_one_holder_at_a_time() -> None:
    token = Token(3)
    assert token.take_nowait(0)
    assert not token.take_nowait(1)
    token.pass_on(0)
    assert token.take_nowait(1)


def test_a_token_that_died_with_its_holder_is_restored() -> None:
    token = Token(2)
    token.take_nowait(0)
    assert token.restore([0])
    assert token.take_nowait(1)


def test_a_token_that_somebody_holds_or_may_take_is_not_doubled() -> None:
    token = Token(2)
    assert not token.restore([0])
    token.take_nowait(1)
    assert not token.restore([0])
    token.pass_on(1)
    assert token.take_nowait(0)
    assert not token.take_nowait(1)


def test_who_passed_the_token_on_does_not_keep_it_from_being_restored() -> None:
    token = Token(3)
    token.take_nowait(0)
    token.pass_on(0)
    token.take_nowait(1)
    assert token.restore([1])
    assert token.take_nowait(2)


def test_who_died_reaching_for_a_token_that_another_holds_has_not_lost_it() -> None:
    token = Token(2)
    token.take_nowait(1)
    token._slots[0] = accept._Hold.REACHING
    assert not token.restore([0])
    assert not token.take_nowait(0)


@pytest.mark.parametrize("hold", [accept._Hold.REACHING, accept._Hold.TOKEN])
def test_killed_between_reading_the_pipe_and_noting_it(hold: accept._Hold) -> None:
    token = Token(2)
    os.read(token.reader, 1)
    token._slots[0] = hold
    assert token.restore([0])
    assert token.take_nowait(1)


def test_killed_between_writing_the_pipe_and_noting_it() -> None:
    token = Token(2)
    token.take_nowait(0)
    os.write(token._writer, b"t")
    assert not token.restore([0])
    assert token.take_nowait(1)
    assert not token.take_nowait(1)


def test_all_workers_die_at_once() -> None:
    token = Token(2)
    os.read(token.reader, 1)
    token._slots[0] = accept._Hold.TOKEN
    token._slots[2] = accept._Hold.REACHING
    assert token.restore([0, 1])
    assert token.take_nowait(0)
    assert not token.take_nowait(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "pass", "die"]), st.integers(0, 2)), max_size=40))
def test_there_is_always_exactly_one_token(steps: list[tuple[str, int]]) -> None:
    token = Token(3)
    try:
        holder: int | None = None
        for step, number in steps:
            if step == "take" and holder != number:
                assert token.take_nowait(number) == (holder is None)
                holder = number if holder is None else holder
            elif step == "pass" and holder == number:
                token.pass_on(number)
                holder = None
            elif step == "die":
                assert token.restore([number]) == (holder == number)
                holder = None if holder == number else holder
            assert token._in_pipe() == (holder is None)
    finally:
        os.close(token.reader)
        os.close(token._writer)


@pytest.fixture
def device() -> Iterator[tuple[int, int]]:
    """A pipe in the place of /dev/fuse: its read end, and the end that makes it readable."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def run(test: object, *arguments: object) -> None:
    async def limited() -> None:
        with trio.fail_after(5):
            await test(*arguments)  # type: ignore[operator]

    trio.run(limited)


def test_only_the_holder_waits_for_the_device(device: tuple[int, int]) -> None:
    async def scenario() -> None:
        token = Token(2)
        first, second = Acceptor(token, 0), Acceptor(token, 1)
        os.write(device[1], b"r")
        await first.wait_readable(device[0])
        arrived = trio.Event()

        async def wait() -> None:
            await second.wait_readable(device[0])
            arrived.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not arrived.is_set()
            first.pass_on()
            await arrived.wait()

    run(scenario)


def test_a_quick_request_passes_the_token_on_only_if_another_waits(device: tuple[int, int]) -> None:
    async def scenario() -> None:
        token = Token(2)
        acceptor = Acceptor(token, 0)
        os.write(device[1], b"r")
        await acceptor.wait_readable(device[0])
        os.read(device[0], 1)
        acceptor.pass_on_if_more()
        assert not token.take_nowait(1)
        os.write(device[1], b"r")
        acceptor.pass_on_if_more()
        assert token.take_nowait(1)

    run(scenario)


def test_blocks_for_the_next_request_only_while_nobody_waits_for_bytes(device: tuple[int, int]) -> None:
    class Poll:
        """A device that always has a request."""

        patience: ClassVar[list[int]] = []

        def register(self, fd: int, events: int) -> None:
            pass

        def poll(self, milliseconds: int) -> bool:
            self.patience.append(milliseconds)
            return True

    async def scenario() -> None:
        acceptor = Acceptor(Token(1), 0)
        acceptor._poll = cast("Any", Poll())
        for step in (lambda: None, acceptor.suspend, acceptor.suspend, acceptor.resume, acceptor.resume):
            step()
            await acceptor.wait_readable(device[0])

    run(scenario)
    assert Poll.patience == [accept.PATIENCE_MS, 0, 0, 0, accept.PATIENCE_MS]


def test_blocks_for_the_token_only_while_nobody_waits_for_bytes(device: tuple[int, int]) -> None:
    class Poll:
        """A token that comes soon."""

        patience: ClassVar[list[int]] = []

        def poll(self, milliseconds: int) -> bool:
            self.patience.append(milliseconds)
            token.pass_on(1)
            return True

    token = Token(2)

    async def scenario() -> None:
        acceptor = Acceptor(token, 0)
        acceptor._token_poll = cast("Any", Poll())
        os.write(device[1], b"r")
        assert token.take_nowait(1)
        await acceptor.wait_readable(device[0])
        assert Poll.patience == [accept.PATIENCE_MS]
        acceptor.suspend()
        assert token.take_nowait(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(acceptor.wait_readable, device[0])
            await trio.testing.wait_all_tasks_blocked()
            token.pass_on(1)
        assert len(Poll.patience) == 1

    run(scenario)


@pytest.mark.parametrize("holds", [True, False])
def test_stop_ends_the_wait_and_leaves_the_token(device: tuple[int, int], holds: bool) -> None:
    async def scenario() -> None:
        token = Token(2)
        acceptor = Acceptor(token, 0)
        if not holds:
            assert token.take_nowait(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_closed, acceptor)
            await trio.testing.wait_all_tasks_blocked()
            acceptor.stop()
        await expect_closed(acceptor)
        assert token.take_nowait(1) == holds

    async def expect_closed(acceptor: Acceptor) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await acceptor.wait_readable(device[0])

    run(scenario)


@pytest.mark.parametrize("waits", [True, False])
def test_other_tasks_run_although_requests_never_cease(device: tuple[int, int], waits: bool) -> None:
    async def scenario() -> None:
        acceptor = Acceptor(Token(1), 0)
        if waits:
            acceptor.suspend()
        os.write(device[1], b"r")
        turns = 0
        async with trio.open_nursery() as nursery:
            other = trio.Event()
            nursery.start_soon(other_task, other)
            while not other.is_set():
                await acceptor.wait_readable(device[0])
                turns += 1
        most = accept.TURNS_BEFORE_CHECKPOINT if waits else accept.TURNS_UNHURRIED
        assert 1 < turns <= 2 * most  # trio shuffles tasks that can run

    async def other_task(event: trio.Event) -> None:
        event.set()

    run(scenario)


def test_a_request_that_was_taken_back_does_not_end_the_loop() -> None:
    outcomes: list[OSError | None] = [
        BlockingIOError(errno.EAGAIN, ""),
        BlockingIOError(errno.EAGAIN, ""),
        None,
    ]

    async def loop() -> None:
        error = outcomes.pop(0)
        if error is not None:
            raise error

    run(_survive, loop)
    assert outcomes == []


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ECONNABORTED])
def test_the_end_of_the_connection_ends_the_loop_in_peace(code: int) -> None:
    async def loop() -> None:
        raise OSError(code, "")

    run(_survive, loop)


def test_other_errors_of_the_device_are_not_hidden() -> None:
    async def loop() -> None:
        raise OSError(errno.EIO, "")

    with pytest.raises(OSError, match="Errno 5"):
        run(_survive, loop)
