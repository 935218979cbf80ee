"""Which session loop reads next: who answered at once reads on, who waits wakes another, nobody is lost."""

from __future__ import annotations

import trio
import trio.testing

from ossmount.fuse.accept import ReadTurn


def test_who_finds_it_free_is_not_suspended() -> None:
    async def main() -> None:
        turn, others = ReadTurn(), list[str]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.testing.wait_all_tasks_blocked)
            nursery.start_soon(note, others)
            for _ in range(100):
                async with turn:
                    pass
            assert others == []

    async def note(others: list[str]) -> None:
        others.append("ran")

    trio.run(main)


def test_one_loop_answers_quick_requests_and_another_takes_over_when_it_waits() -> None:
    seen: list[str] = []

    async def loop(name: str, turn: ReadTurn, requests: list[bool], answered: trio.Event) -> None:
        while requests:
            async with turn:
                if not requests:
                    break
                waits = requests.pop(0)
                await trio.lowlevel.checkpoint()  # the device
            seen.append(name)
            if waits:
                turn.wake()
                await answered.wait()
        turn.wake()

    async def main() -> None:
        turn, answered = ReadTurn(), trio.Event()
        requests = [False, False, True, False, False]
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loop, "a", turn, requests, answered)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(loop, "b", turn, requests, answered)
                await trio.testing.wait_all_tasks_blocked()
                answered.set()

    trio.run(main)
    assert seen[:3] in (["a", "a", "a"], ["b", "b", "b"])
    assert len(seen) == 5


def test_a_loop_that_ends_lets_the_next_one_read() -> None:
    async def main() -> None:
        turn, ended = ReadTurn(), list[int]()

        async def loop(number: int) -> None:
            async with turn:
                await trio.lowlevel.checkpoint()
            ended.append(number)
            turn.wake()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(loop, number)
        assert sorted(ended) == [0, 1, 2, 3, 4]
        assert "waiting=0" in repr(turn)

    trio.run(main)
