"""Addresses are asked for beside their use, in turn, and again when they are old."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from ossmount.stores.resolving import ADDRESS_LIFE, Address, Resolver
from ossmount.stores.wire import Place

PLACE = Place("bucket.example", 80)
FIRST: Address = (socket.AF_INET, ("192.0.2.1", 80))
SECOND: Address = (socket.AF_INET, ("192.0.2.2", 80))


class Names:
    """Answers like getaddrinfo, when it is told to; a clock."""

    def __init__(self) -> None:
        self.answer: list[Address] | OSError = [FIRST, SECOND]
        self.waiting: list[Callable[[], None]] = []
        self.now = 5.0
        self.resolver = Resolver(self._ask, self.waiting.append, lambda: self.now)

    def _ask(self, place: Place) -> list[Address]:
        assert place == PLACE
        if isinstance(self.answer, OSError):
            raise self.answer
        return list(self.answer)

    def find(self) -> Address | None:
        return self.resolver.find(PLACE)

    def reply(self) -> None:
        self.waiting.pop()()


def test_who_asks_does_not_wait_and_gets_each_in_turn() -> None:
    names = Names()
    assert names.find() is None
    assert names.find() is None
    names.reply()
    assert [names.find() for _ in range(4)] == [FIRST, SECOND, FIRST, SECOND]
    assert not names.waiting, "one question"


def test_an_old_answer_serves_until_the_new_one_is_there() -> None:
    names = Names()
    names.find()
    names.reply()
    names.now += ADDRESS_LIFE
    names.answer = [SECOND]
    assert names.find() == FIRST
    names.reply()
    assert (names.find(), names.find()) == (SECOND, SECOND)


def test_a_name_that_is_not_known_is_asked_for_again_later() -> None:
    names = Names()
    names.answer = socket.gaierror(socket.EAI_NONAME, "unknown")
    names.find()
    names.reply()
    assert names.find() is None
    assert not names.waiting
    names.now += ADDRESS_LIFE
    names.answer = [FIRST]
    names.find()
    names.reply()
    assert names.find() == FIRST


def test_the_system_is_asked_in_a_thread() -> None:
    place = Place("127.0.0.1", 9000)
    resolver = Resolver()
    resolver.find(place)
    for thread in threading.enumerate():
        if thread.name == "ossmount-resolve":
            thread.join(10)
    assert resolver.find(place) == (socket.AF_INET, ("127.0.0.1", 9000))
