"""A sink for tests (see ``ossmount.protocols.Sink``)."""

from __future__ import annotations


class Gathering:
    """Keeps what it is given, in rooms of ``room`` bytes."""

    def __init__(self, room: int = 40_000) -> None:
        self._size = room
        self._rooms = [bytearray(room)]
        self._used = 0

    @property
    def data(self) -> bytes:
        """All that has come."""
        return b"".join(self._rooms)[: (len(self._rooms) - 1) * self._size + self._used]

    def room(self) -> memoryview:
        """What is left of the last room."""
        return memoryview(self._rooms[-1])[self._used :]

    def came(self, count: int) -> None:
        """Opens the next room when one is full."""
        self._used += count
        if self._used == self._size:
            self._rooms.append(bytearray(self._size))
            self._used = 0
