"""Fetches that wait for their turn: what programs wait for before what they may want. Pure bookkeeping."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from ossmount.readahead.flight import Flight


class Queues:
    """Two queues in one: demand, and behind it what is read ahead, each in the order of asking."""

    def __init__(self) -> None:
        self._demand: deque[Flight] = deque()
        self._ahead: OrderedDict[Flight, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"{len(self._demand)}+{len(self._ahead)} queued"

    def __len__(self) -> int:
        return len(self._demand) + len(self._ahead)

    def add(self, flight: Flight) -> None:
        """Behind all of its kind."""
        if flight.demand:
            self._demand.append(flight)
        else:
            self._ahead[flight] = None

    def hasten(self, flight: Flight) -> None:
        """A program waits for it now, whether it is queued here or under way."""
        flight.demand = True
        if flight in self._ahead:
            del self._ahead[flight]
            self._demand.append(flight)

    def take(self, fits: Callable[[Flight], bool]) -> Iterator[Flight]:
        """Takes out as many as fit, asked one after another; nothing overtakes demand that does not."""
        while self._demand and fits(self._demand[0]):
            yield self._demand.popleft()
        while self._ahead and not self._demand and fits(flight := next(iter(self._ahead))):
            del self._ahead[flight]
            yield flight
