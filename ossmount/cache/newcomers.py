"""Newcomers to a full cache: when they came before, and what the policy says. Sized by the capacity.

What may live here: what brings ``ghosts`` and ``policy`` together, and is made anew with another capacity.
"""

from __future__ import annotations

from ossmount.cache.disk_layout import segment_size
from ossmount.cache.files import File
from ossmount.cache.ghosts import Ghosts
from ossmount.cache.policy import Admission


class Newcomers:
    """Of a cache of ``capacity`` bytes; ``file`` remembers those that were declined. One per process."""

    def __init__(self, file: File, capacity: int) -> None:
        """Brings the file to its size. Raises OSError."""
        self.capacity = capacity
        self._ghosts = Ghosts(file, capacity)
        self._admission = Admission(capacity, segment_size(capacity))

    def __repr__(self) -> str:
        return f"Newcomers({self._ghosts!r}, {self._admission!r})"

    def required_idle(self, digest: bytes, length: int, now: int, idle: int) -> int | None:
        """Asks the policy (see there) at the clock ``now``; remembers a newcomer that it declines.

        Raises OSError.
        """
        distance = self._ghosts.distance(digest, now)
        required = self._admission.required_idle(length, distance, idle)
        if required is None and (distance is None or not self._admission.repeats(distance)):
            self._ghosts.note(digest, now)
        return required
