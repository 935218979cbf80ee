"""The swap from one generation to the next, as the supervisor performs it.

::

    GATHERING  every child is told to finish what it accepted; the kernel's new requests wait
    STARTING   none is left: children with the new plan are forked
    (done)     the first of them answers

No child of the old plan lives when the first of the new one begins, so no answer of the old generation
follows one of the new. What an old child could not answer in time the kernel hands out again.

What may live here: the state of a swap; processes are :mod:`children`'s. Who may touch it: whoever changes
how generations follow each other.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from ossmount.errors import OssmountError
from ossmount.fuse.worker import Plan

GRACE_SECONDS = 2.0
"""How long an old child may take to answer what it has accepted; programs wait meanwhile. A request of a
store takes a fraction of it; what takes longer is asked again, by a new child."""

PATIENCE_SECONDS = 120.0
"""The same where the kernel cannot hand out requests again (Linux < 6.9): a read's default deadline."""

SwapDone = Callable[[OssmountError | None], None]
"""Called when the new generation answers, or with the reason why the old one goes on."""


class Phase(enum.Enum):
    """Where a swap is."""

    GATHERING = 1
    STARTING = 2


@dataclass
class Swap:
    """One swap under way."""

    new: Plan
    old: Plan
    done: SwapDone
    phase: Phase = Phase.GATHERING
    unanswered: bool = False
    """Whether a child died with requests that it had accepted."""
