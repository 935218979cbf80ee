"""A live mount goes over to the next generation: build, swap, invalidate. Runs in the supervisor.

What may live here: the order of the steps. Each long one is an errand, a process of its own: the supervisor
opens no index and no store and never waits. Who may touch it: whoever changes what a refresh of a mount
promises (SEMANTICS, Consistency; docs/generations.md).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ossmount import index
from ossmount.app.changes import InvalidationFile, Name, read_invalidations
from ossmount.app.composition import Plan, run_prefetcher, serve_worker
from ossmount.app.generations import refresh_index
from ossmount.app.runtime import MountRecord, RefreshState
from ossmount.errors import IndexFileError, MountError, OssmountError, decode_error, encode_error
from ossmount.fuse import forgetting
from ossmount.fuse.contract import Supervising
from ossmount.model import Progress

log = logging.getLogger(__name__)

FORGET_TRIES = 5
"""How often the kernel is told what changed if the process that tells it dies. The swap is done by then."""

FORGET_AGAIN_SECONDS = 2.0
"""Between two of these: a machine that cannot fork now may do so then."""


class PinnedIndex:
    """An index file that stays what it is, whatever happens to its name: held open by the supervisor.

    Its ``path`` is good in the supervisor and in whatever it forks. Holding a file open is not opening an
    index: LMDB is not involved.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise IndexFileError(f"cannot open index {path}: {error.strerror}", "build it again") from error
        self.path = Path(f"/proc/self/fd/{self._descriptor}")

    def __repr__(self) -> str:
        return f"PinnedIndex({str(self.path)!r})"

    @property
    def seen_from_outside(self) -> str:
        """A path to the file for other processes of this user, while the supervisor lives."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Lets the file go."""
        os.close(self._descriptor)


@dataclass(slots=True)
class _Pins:
    """The files that children may have open: of the generation that is served, and of the one before."""

    current: PinnedIndex
    previous: PinnedIndex | None = None

    def advance(self, new: PinnedIndex) -> None:
        if self.previous is not None:
            self.previous.close()
        self.previous, self.current = self.current, new


class MountRefresh:
    """Refreshes one mount whenever it is asked to, one at a time. ``plan`` is what its children run now.

    ``interval``: seconds from the end of one refresh to the next, None for none.
    """

    def __init__(self, plan: Plan, pin: PinnedIndex, record: MountRecord, interval: float | None) -> None:
        self.plan = plan
        self._pins = _Pins(pin)
        self._record = record
        self._interval = interval
        self._state = RefreshState()
        self._again = False
        self._waits = 0
        self._result: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<MountRefresh of {self._record.mountpoint}, {self._state}>"

    def start(self, supervising: Supervising) -> None:
        """Begins the first interval, if there are any."""
        self._wait(supervising)

    def _wait(self, supervising: Supervising) -> None:
        """For the next interval, from now on: one that had begun before counts no more."""
        if self._interval is not None:
            self._waits += 1
            supervising.later(self._interval, partial(self._on_interval, self._waits))

    def request(self, supervising: Supervising) -> None:
        """Begins a refresh; while one runs, another follows, because that one may have missed something."""
        if self._state.running:
            self._again = True
            return
        self._state = self._state.begun()
        self._publish()
        work = partial(build_next, self._pins.current.path, Path(self._record.index), self.plan)
        supervising.errand(work, self._built)

    def _on_interval(self, wait: int, supervising: Supervising) -> None:
        if wait == self._waits and not self._state.running:
            self.request(supervising)

    def _built(self, supervising: Supervising, result: bytes) -> None:
        """The next generation stands at the index's path, or nothing changed, or it failed."""
        outcome = json.loads(result) if result else _died("building the next generation")
        if "error" in outcome:
            self._finish(supervising, outcome)
            return
        self._result = outcome["refreshed"]
        if self._result["generation"] == self._result["previous"]:
            self._finish(supervising, outcome)
            return
        try:
            new = self._pin(self._result["checksum"])
        except OssmountError as error:
            self._finish(supervising, {"error": encode_error(error)})
            return
        arrivals = self.plan.arrivals.of_next_generation()
        plan = replace(self.plan, index=new.path, previous=self._pins.current.path, arrivals=arrivals)
        serve, prefetch = partial(serve_worker, plan), partial(run_prefetcher, plan)
        if not supervising.swap(serve, prefetch, partial(self._swapped, plan, new)):
            new.close()
            ending = MountError("the mount is not serving, so it stays as it is", "mount it again")
            self._finish(supervising, {"error": encode_error(ending)})

    def _pin(self, checksum: str) -> PinnedIndex:
        """The new file, made sure to be the one that was compared."""
        pin = PinnedIndex(Path(self._record.index))
        try:
            if index.checksum_of(pin.path) != checksum:
                raise IndexFileError(f"{self._record.index} was replaced meanwhile", "refresh again")
        except OssmountError:
            pin.close()
            raise
        return pin

    def _swapped(
        self, plan: Plan, new: PinnedIndex, supervising: Supervising, error: OssmountError | None
    ) -> None:
        """Workers of the new generation answer; now the kernel forgets what was different before."""
        if error is not None:
            new.close()
            self._finish(supervising, {"error": encode_error(error)})
            return
        self.plan = plan
        self._pins.advance(new)
        generation = self._result["generation"]
        self._record = replace(self._record, generation=generation, served=new.seen_from_outside)
        self._tell_record()
        self._forget(FORGET_TRIES, supervising)

    def _tell_record(self) -> None:
        try:
            self._record.update()
        except OSError as error:  # a full disk: what programs see does not depend on it
            log.warning(
                "mount.json still tells the generation before %d: %s", self._record.generation, error.strerror
            )

    def _forget(self, tries: int, supervising: Supervising) -> None:
        supervising.errand(
            partial(forget_changes, invalidations_of(self.plan)), partial(self._forgotten, tries - 1)
        )

    def _forgotten(self, tries: int, supervising: Supervising, result: bytes) -> None:
        """The kernel was told, or who told it died: programs may see names of the generation before."""
        if not result and tries:
            log.warning("telling the kernel what changed died: once more in %.0f s", FORGET_AGAIN_SECONDS)
            supervising.later(FORGET_AGAIN_SECONDS, partial(self._forget, tries))
            return
        self._finish(supervising, {"refreshed": self._result} if result else _NOT_FORGOTTEN)

    def _finish(self, supervising: Supervising, outcome: Mapping[str, Any]) -> None:
        if "error" in outcome:
            log.error(
                "the refresh failed, generation %d is served: %s", self._record.generation, _told(outcome)
            )
        else:
            log.info("refreshed: %s", outcome["refreshed"])
        self._state = self._state.ended(outcome)
        self._publish()
        invalidations_of(self.plan).unlink(missing_ok=True)
        if self._again:
            self._again = False
            self.request(supervising)
        else:
            self._wait(supervising)

    def _publish(self) -> None:
        self._state.write(self.plan.runtime)


def invalidations_of(plan: Plan) -> Path:
    """Where the builder leaves what the kernel must forget."""
    return plan.runtime / "invalidations"


def build_next(mounted: Path, path: Path, plan: Plan) -> bytes:
    """An errand: builds the next generation and compares; its outcome as JSON."""
    try:
        with invalidations_of(plan).open("w", encoding="ascii") as output:
            invalidations = InvalidationFile(output)
            refreshed = refresh_index(path, plan.settings, _silent, invalidations.add, mounted)
            if refreshed.is_new:
                with index.open_index(path) as new:
                    invalidations.finish(new)
    except OssmountError as error:
        return json.dumps({"error": encode_error(error)}).encode()
    except OSError as error:
        described = MountError(f"the refresh failed: {error}", "see the disk of the runtime directory")
        return json.dumps({"error": encode_error(described)}).encode()
    return json.dumps({"refreshed": asdict(refreshed)}).encode()


def forget_changes(path: Path) -> bytes:
    """An errand: has the kernel forget names and attributes; how many of them it knew."""
    known = 0
    for row in read_invalidations(path):
        if isinstance(row, Name):
            known += forgetting.forget_name(row.parent, row.name)
        else:
            known += forgetting.forget_attributes(row.ino)
    return b"%d" % known


def _silent(_: Progress) -> None:
    """Nobody watches a daemon's progress."""


def _died(what: str) -> dict[str, Any]:
    return {"error": encode_error(MountError(f"{what} died", "see the mount's log"))}


_NOT_FORGOTTEN = {
    "error": encode_error(
        MountError(
            "the kernel was not told what changed: programs may see names of the generation before",
            "mount again",
        )
    )
}


def _told(outcome: Mapping[str, Any]) -> str:
    return str(decode_error(outcome["error"]))
