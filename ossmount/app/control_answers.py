"""What a mount's control socket answers, in the supervisor: nothing here waits, opens an index or a store.

Who may touch it: whoever adds a request, together with docs/control-socket.md and ``ControlClient``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ossmount import __version__
from ossmount.app.composition import Plan
from ossmount.app.control_protocol import MOST_INODES, PROTOCOL, Refused
from ossmount.app.control_server import Answer, ControlServer
from ossmount.app.shared_level import LEVELS, SharedLevel
from ossmount.app.statistics import sum_statistics
from ossmount.errors import MountError
from ossmount.fuse.contract import Supervising
from ossmount.readahead import KNOWN_ORDER, Observer

log = logging.getLogger(__name__)

LARGEST = (1 << 64) - 1
"""Inode and batch numbers have 64 bits."""


def open_control(plan: Plan, refresh: Callable[[Supervising], None] | None = None) -> ControlServer:
    """The control socket of a mount, open; the caller closes it. Raises MountError."""
    answers = ControlAnswers(
        plan.runtime, plan.observer, plan.level, warms=plan.settings.cache.cache_size > 0, refresh=refresh
    )
    try:
        return ControlServer(plan.runtime, answers.answer, answers.left)
    except OSError as error:
        raise MountError(
            f"cannot make the control socket in {plan.runtime}: {error.strerror}",
            "set OSSMOUNT_RUNTIME_DIR to a local directory",
        ) from error


class ControlAnswers:
    """Answers for one mount.

    ``observer`` leads to the prefetchers, None where there are none. ``warms`` is False without a disk
    cache. ``refresh`` starts the next generation and returns at once; None where that is not offered.
    """

    def __init__(
        self,
        directory: Path,
        observer: Observer | None,
        level: SharedLevel,
        *,
        warms: bool = True,
        refresh: Callable[[Supervising], None] | None = None,
    ) -> None:
        self._directory = directory
        self._observer = observer
        self._level = level
        self._warms = warms
        self.refresh = refresh
        self._batches: dict[object, set[int]] = {}
        """Batches by the connection that wishes for them."""
        self._requests: dict[str, Answer] = {
            "version": self._version,
            "stats": self._stats,
            "order": self._order,
            "warm": self._warm,
            "withdraw": self._withdraw,
            "log-level": self._log_level,
            "refresh": self._refresh,
            "drain": self._drain,
        }

    def __repr__(self) -> str:
        return f"ControlAnswers({str(self._directory)!r})"

    def answer(
        self, supervising: Supervising, request: Mapping[str, Any], connection: object
    ) -> Mapping[str, Any]:
        """The fields of the answer. Raises Refused."""
        name = request.get("request")
        found = self._requests.get(name) if isinstance(name, str) else None
        if found is None:
            raise Refused("unknown", f"no request {name!r}", f"one of: {', '.join(self._requests)}")
        return found(supervising, request, connection)

    def left(self, connection: object) -> None:
        """A client is gone: what it still wished for is withdrawn."""
        for batch in self._batches.pop(connection, ()):
            if self._observer is not None:
                self._observer.withdraw(batch)

    # -- looking ----------------------------------------------------------------------------------

    def _version(self, *_: object) -> Mapping[str, Any]:
        return {"version": __version__, "protocol": PROTOCOL, "requests": list(self._requests)}

    def _stats(self, supervising: Supervising, *_: object) -> Mapping[str, Any]:
        return {
            "supervisor": dict(supervising.statistics()),
            "counters": sum_statistics(self._directory / "stats"),
        }

    # -- fetching ---------------------------------------------------------------------------------

    def _order(self, _: Supervising, request: Mapping[str, Any], __: object) -> Mapping[str, Any]:
        begin = request.get("begin", True)
        if not isinstance(begin, bool):
            raise Refused("invalid", "'begin' is true or false")
        observer, inos = self._prefetchers(), _inodes(request)
        return {"passed": observer.know(inos, begin=begin)}

    def _warm(self, _: Supervising, request: Mapping[str, Any], connection: object) -> Mapping[str, Any]:
        observer, batch, inos = self._prefetchers(), _batch(request), _inodes(request)
        if not self._warms:
            raise Refused(
                "unavailable", "this mount has no disk cache to warm", "mount with --cache-size above 0"
            )
        self._batches.setdefault(connection, set()).add(batch)
        return {"passed": observer.warm(batch, inos)}

    def _withdraw(self, _: Supervising, request: Mapping[str, Any], connection: object) -> Mapping[str, Any]:
        """Takes back a batch, or without one the known order."""
        batch = _batch(request) if "batch" in request else KNOWN_ORDER
        self._batches.get(connection, set()).discard(batch)
        return {"passed": self._prefetchers().withdraw(batch)}

    def _prefetchers(self) -> Observer:
        if self._observer is None:
            raise Refused(
                "unavailable",
                "this mount has no prefetchers",
                "mount with --prefetchers 1 and --readahead auto",
            )
        return self._observer

    # -- doing ------------------------------------------------------------------------------------

    def _log_level(self, _: Supervising, request: Mapping[str, Any], __: object) -> Mapping[str, Any]:
        level = request.get("level")
        if level not in LEVELS:
            raise Refused("invalid", f"{level!r} is no log level", f"one of: {', '.join(LEVELS)}")
        before = self._level.get()
        self._level.set(level)
        self._level.apply()
        log.log(logging.INFO, "log level %s, was %s", level, before)
        return {"level": level, "before": before}

    def _refresh(self, supervising: Supervising, *_: object) -> Mapping[str, Any]:
        if self.refresh is None:
            raise Refused("unavailable", "this mount cannot be refreshed", "unmount and mount it again")
        self.refresh(supervising)
        return {}

    def _drain(self, supervising: Supervising, *_: object) -> Mapping[str, Any]:
        log.info("asked to drain: unmounting")
        supervising.stop()
        return {}


def _inodes(request: Mapping[str, Any]) -> list[int]:
    inos = request.get("inos")
    if not isinstance(inos, list) or not all(type(ino) is int and 0 < ino <= LARGEST for ino in inos):
        raise Refused("invalid", "'inos' is a list of inode numbers")
    if len(inos) > MOST_INODES:
        raise Refused("too-long", f"a request has at most {MOST_INODES} inodes", "send them in parts")
    return inos


def _batch(request: Mapping[str, Any]) -> int:
    batch = request.get("batch")
    if type(batch) is not int or not 0 < batch <= LARGEST:
        raise Refused("invalid", "'batch' is a number from 1")
    return batch
