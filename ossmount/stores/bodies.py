"""Bodies of urllib3's answers, for as long as they may take.

urllib3's own time-out begins anew with every byte, so a server whose body trickles would hold a thread for
ever. What may live here: this one way of reading, for the clients that are urllib3 or stand on it (boto3,
oss2). Touch it when one of them stands on another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from ossmount.stores.range_get import longest

_PIECE = 1 << 20
"""Bytes read at a time."""


def pieces(
    answer: Any, length: int, timeout: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """The first ``length`` bytes of the body, or fewer where it ends or takes longer than ``longest``.

    ``answer`` is urllib3's. The connection of one that was not read to its end is the caller's to close.
    """
    until, missing = clock() + longest(timeout, length), length
    # What has come and no more. Old ones lack read1.
    read: Callable[[int], bytes] = getattr(answer, "read1", answer.read)
    while missing > 0 and clock() <= until and (piece := read(min(missing, _PIECE))):
        missing -= len(piece)
        yield piece
