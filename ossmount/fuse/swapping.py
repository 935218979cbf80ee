"""The swap from one generation to the next, as the supervisor performs it.

::

    QUIETING   prefetchers are told to end; workers answer as before
    GATHERING  workers are told to finish what they accepted; the kernel's new requests wait
    STARTING   none is left: children with the new plan are forked
    (done)     the first of them answers

Prefetchers end first because they push: a push waits in the kernel, where no signal ends it, for pages that
a READ has locked. While nobody answered that READ its process would not end.

No worker of the old plan answers when the first of the new one begins, so no answer of the old generation
follows one of the new. What an old worker could not answer in time the kernel hands out again. A process that
even SIGKILL does not end is not waited for: what it pushes late is right, for a file with other content is
another inode.

What may live here: the steps of a swap; processes are :mod:`children`'s. Who may touch it: whoever changes
how generations follow each other.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ossmount.errors import OssmountError
from ossmount.fuse.children import KILLED_SECONDS, QUIET_SECONDS, Children, Death
from ossmount.fuse.worker import Kind, Plan, Status

GRACE_SECONDS = 2.0
"""How long an old worker may take to answer what it has accepted; programs wait meanwhile. A request of a
store takes a fraction of it; what takes longer is asked again, by a new worker."""

PATIENCE_SECONDS = 120.0
"""The same where the kernel cannot hand out requests again (Linux < 6.9): a read's default deadline."""

SwapDone = Callable[[OssmountError | None], None]
"""Called when the new generation answers, or with the reason why the old one goes on."""


class Phase(enum.Enum):
    """Where a swap is; it only moves forward."""

    QUIETING = 1
    GATHERING = 2
    STARTING = 3


_ENDING = {Phase.QUIETING: Kind.PREFETCHER, Phase.GATHERING: Kind.WORKER}
"""Which children are waited for."""


@dataclass
class Swap:
    """One swap under way. The supervisor tells it of deaths, and how the new children fare."""

    new: Plan
    children: Children
    later: Callable[[float, Callable[[], None]], None]
    resend: Callable[[], bool]
    lost: Callable[[Sequence[Death]], None]
    """Is told of children that are not waited for any more, as if they had died."""
    done: SwapDone
    phase: Phase = Phase.QUIETING
    _old: Plan = field(init=False)
    _unanswered: bool = field(init=False, default=False)
    """Whether a worker died with requests that it had accepted."""

    def __post_init__(self) -> None:
        self._old = self.children.plan

    def begin(self) -> None:
        """Tells the prefetchers to end."""
        self.children.halt(Kind.PREFETCHER)
        self.later(QUIET_SECONDS, partial(self._kill, Phase.QUIETING))
        self.go_on(())

    @property
    def ending(self) -> Kind | None:
        """Children that are waited for, and get no successors."""
        return _ENDING.get(self.phase)

    def go_on(self, workers: Sequence[Death]) -> None:
        """Takes the steps for which nobody has to end any more. ``workers`` have died."""
        if self.phase is Phase.GATHERING:
            self._unanswered |= any(death.status != Status.STOPPED for death in workers)
        if self.phase is Phase.QUIETING and not self.children.alive(Kind.PREFETCHER):
            self.phase = Phase.GATHERING
            self.children.halt(Kind.WORKER)
            self.later(GRACE_SECONDS, self._hurry)
        if self.phase is Phase.GATHERING and not self.children.alive():
            self.phase = Phase.STARTING
            self.children.renew(self.new)
            if self._unanswered:
                self.resend()

    def fall_back(self, error: OssmountError) -> None:
        """The new plan does not work: children that still try it end, and all start with the old one."""
        self.children.return_to(self._old)
        self.done(error)

    def _hurry(self) -> None:
        """Workers took too long: their requests are for the new ones, where the kernel can do that."""
        if self.phase is not Phase.GATHERING:
            return
        if self.resend():
            self._kill(Phase.GATHERING)
        else:
            self.later(PATIENCE_SECONDS, partial(self._kill, Phase.GATHERING))

    def _kill(self, phase: Phase) -> None:
        if self.phase is phase:
            self.children.send(signal.SIGKILL, _ENDING[phase])
            self.later(KILLED_SECONDS, partial(self._leave, phase))

    def _leave(self, phase: Phase) -> None:
        if self.phase is phase:
            self.lost(self.children.leave(_ENDING[phase]))
