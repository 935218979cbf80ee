"""The supervisor: opens the mount, forks workers and prefetchers, and keeps them alive.

What may live here: what happens in the supervisor's process between mount and unmount. It never opens an
index, a store client or a thread (ARCHITECTURE, Processes). Who may touch it: whoever changes how a mount
starts, recovers or ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import FrameType

from ossmount.config import MountSettings
from ossmount.errors import MountError, OssmountError, decode_error
from ossmount.fuse import kernel_knobs
from ossmount.fuse.accept import Token
from ossmount.fuse.children import Children, Death
from ossmount.fuse.contract import Callbacks, Prefetch, Serve, Supervising
from ossmount.fuse.errands import Errands
from ossmount.fuse.introducing import Introductions
from ossmount.fuse.mountpoint import Directory, Mountpoint, mounted_at
from ossmount.fuse.session import MountSession, State
from ossmount.fuse.swapping import Phase, Swap
from ossmount.fuse.timers import Timers
from ossmount.fuse.worker import Kind, Plan, Status

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""After SIGTERM, how long open files of a detached mount are still served. A second signal ends it."""

STOP_SECONDS = 5.0
"""How long a child may take to answer what it has accepted before it is killed."""

LOOK_SECONDS = 1.0
"""Between two looks for children that are dead and cannot end; a look takes some 50 µs."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def run_mount(
    mountpoint: Mountpoint,
    settings: MountSettings,
    *,
    source: str,
    serve: Serve,
    prefetchers: int = 0,
    prefetch: Prefetch | None = None,
    introductions: Introductions | None = None,
    callbacks: Callbacks | None = None,
) -> int:
    """Mounts and serves until the mount ends; the exit status (0: unmounted in order).

    Call it in the main thread with no LMDB environment, no store client and no other thread: it forks.
    ``serve(number)`` is entered in each worker, ``prefetch(number)`` runs in each prefetcher, both under
    trio after the fork. Sockets between workers and prefetchers are made by the caller before and
    captured by the two functions. ``source`` is shown as the device in ``/proc/mounts``; it must hold
    no secrets. Check the mountpoint before with :func:`ossmount.fuse.mountpoint.check_device` and
    :func:`~ossmount.fuse.mountpoint.check_directory`.

    Raises MountError, and what ``serve`` raised when no worker ever came up; nothing stays mounted then.
    """
    callbacks = callbacks or Callbacks()
    session = MountSession.open(mountpoint, settings, source)
    try:
        supervisor = Supervisor(session, settings, serve, prefetch, callbacks, introductions)
        with supervisor.signals():
            return supervisor.run(settings.workers, prefetchers)
    finally:
        session.close()


class Supervisor(Supervising):
    """Waits for children, signals and the app's descriptors, and reacts. One process, one thread."""

    def __init__(
        self,
        session: MountSession,
        settings: MountSettings,
        serve: Serve,
        prefetch: Prefetch | None,
        callbacks: Callbacks,
        introductions: Introductions | None = None,
    ) -> None:
        self._session = session
        self._settings = settings
        self._callbacks = callbacks
        self._ready, ready_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup, self._wakeup_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._token = Token(settings.workers)
        plan = Plan(settings, serve, prefetch, session.operations, self._token, ready_writer, introductions)
        self._selector = selectors.DefaultSelector()
        self._children = Children(plan, self._leave_to_supervisor)
        self._errands = Errands(self._listen, self.unwatch, self._leave_to_supervisor)
        self._timers = Timers()
        self._swap: Swap | None = None
        self._signals: list[int] = []
        self._partial = b""
        self._failure: OssmountError | None = None
        self._ended = False
        self._resends = 0
        self._drain_until: float | None = None

    def __repr__(self) -> str:
        return f"<Supervisor {self._session.mountpoint} {self._session.state.name} {self.statistics()}>"

    # -- what callbacks may ask -------------------------------------------------------------------

    def stop(self) -> None:
        """Drains and unmounts; at the second call, ends at once."""
        if self._session.state is State.DRAINING:
            self._ended = True
            return
        self._session.advance(State.DRAINING)
        self._drain_until = time.monotonic() + DRAIN_SECONDS
        if self._session.detach():
            self._ended = True

    def signal_children(self, signum: int) -> None:
        """Sends a signal to every worker and prefetcher."""
        self._children.send(signum)

    def statistics(self) -> Mapping[str, int]:
        """Living children by kind, and what recovery did."""
        kinds = [child.kind for child in self._children.alive()]
        return {
            "workers": kinds.count(Kind.WORKER),
            "prefetchers": kinds.count(Kind.PREFETCHER),
            "restarts": self._children.restarts,
            "resends": self._resends,
        }

    def watch(self, fd: int, callback: Callable[[Supervising], None]) -> None:
        """Calls ``callback`` whenever ``fd`` is readable."""
        self._listen(fd, partial(self._call, callback))

    def _listen(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        """The opposite of :meth:`watch`."""
        self._selector.unregister(fd)

    def later(self, seconds: float, callback: Callable[[Supervising], None]) -> None:
        """Calls ``callback`` once, in ``seconds``."""
        self._timers.later(seconds, partial(self._call, callback))

    def errand(self, work: Callable[[], bytes], done: Callable[[Supervising, bytes], None]) -> None:
        """Has ``work()`` done in a process of its own."""
        self._errands.run(work, lambda result: self._call(lambda supervising: done(supervising, result)))

    def swap(
        self,
        serve: Serve,
        prefetch: Prefetch | None,
        done: Callable[[Supervising, OssmountError | None], None],
    ) -> bool:
        """Replaces every child by one with another file system; see :mod:`ossmount.fuse.swapping`."""
        if self._swap is not None or self._session.state is not State.SERVING:
            return False

        def end(error: OssmountError | None) -> None:
            self._swap = None
            self._call(lambda supervising: done(supervising, error))

        plan = replace(self._children.plan, serve=serve, prefetch=prefetch)
        self._swap = Swap(plan, self._children, self._timers.later, self._resend, self._on_deaths, end)
        self._swap.begin()
        return True

    # -- the loop ---------------------------------------------------------------------------------

    def run(self, workers: int, prefetchers: int) -> int:
        """Until the mount has ended; see :func:`run_mount`."""
        if self._session.connection is not None:
            kernel_knobs.set_read_ahead(self._session.connection, self._settings)
        self._selector.register(self._ready, selectors.EVENT_READ, self._hear_children)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._wake)
        for fd, callback in (self._callbacks.on_readable or {}).items():
            self.watch(fd, callback)
        self._call(self._callbacks.on_start)
        self._timers.later(LOOK_SECONDS, self._look)
        try:
            self._children.add(Kind.WORKER, workers)
            self._children.add(Kind.PREFETCHER, prefetchers)
            while not self._ended:
                self._wait()
        finally:
            self._close()
        if self._failure is not None:
            raise self._failure
        return 0

    def _wait(self) -> None:
        """One wait and everything it brought."""
        for call in self._timers.due():
            call()
        waits = [wait for wait in (self._children.restart_due(), self._timers.wait()) if wait is not None]
        pause = min(waits, default=None)
        if self._drain_until is not None:
            left = self._drain_until - time.monotonic()
            if left <= 0:
                self._ended = True
                return
            pause = left if pause is None else min(pause, left)
        for key, _ in self._selector.select(pause):
            key.data()
        while self._signals:
            self._on_signal(self._signals.pop(0))

    def _close(self) -> None:
        """Unmounts first, so that nobody sends a request that no one will read, then ends the children."""
        if self._session.state is not State.CLOSED:
            self._session.detach()
        self._children.left += self._errands.end(STOP_SECONDS)
        self._children.end(STOP_SECONDS, self._release)
        self._hear_children()
        self._selector.close()

    def _call(self, callback: Callable[[Supervising], None]) -> None:
        """The app's errors do not end a mount that serves."""
        try:
            callback(self)
        except Exception:
            log.exception("a callback failed")

    # -- signals ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Signals wake the loop while this is entered."""
        before = {signum: signal.signal(signum, self._note_signal) for signum in SIGNALS}
        wakeup = signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for signum, old in before.items():
                signal.signal(signum, old)

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals.append(signum)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)

    def _on_signal(self, signum: int) -> None:
        if signum == signal.SIGCHLD:
            self._on_deaths(list(self._children.reap()))
        elif signum == signal.SIGHUP:
            self._call(self._callbacks.on_hangup)
        else:
            log.info("signal %d: unmounting %s", signum, self._session.mountpoint)
            self.stop()

    # -- children ---------------------------------------------------------------------------------

    def _leave_to_supervisor(self) -> None:
        """In a new child: the supervisor's own descriptors are none of its business."""
        self._selector.close()
        for fd in (self._ready, self._wakeup, self._wakeup_writer):
            os.close(fd)
        self._callbacks.in_child()

    def _hear_children(self) -> None:
        """Lines of children: one is ready, has seen the mount end, or says why it fails."""
        try:
            self._partial += os.read(self._ready, 65536)
        except BlockingIOError:
            return
        *lines, self._partial = self._partial.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "ready" in message:
                self._children.note_ready(message["ready"])
                self._on_ready()
            elif "ended" in message:
                if not self._ended:  # each worker says so
                    log.info("%s was unmounted", self._session.mountpoint)
                self._ended = True
            else:
                self._on_failure(decode_error(message["failed"]), Kind(message["kind"]))

    def _on_ready(self) -> None:
        """The first worker answers: the mount serves, if it is still where it was put."""
        if self._swap is not None and self._swap.phase is Phase.STARTING:
            self._swap.done(None)
        if self._session.state is not State.STARTING:
            return
        mountpoint = self._session.mountpoint
        if isinstance(mountpoint, Directory) and mounted_at(mountpoint.path) is None:
            self._failure = MountError(f"{mountpoint} was unmounted before it served", "mount it again")
            self._ended = True
            return
        self._session.advance(State.SERVING)
        self._call(lambda _: self._callbacks.on_serving())

    def _on_failure(self, error: OssmountError, kind: Kind) -> None:
        """A child's reason; before the mount serves a worker's reason is the mount's."""
        log.error("a %s failed: %s", kind, error)
        if kind is Kind.WORKER and self._session.state is State.STARTING:
            self._failure = self._failure or error
            self._ended = True
        elif kind is Kind.WORKER and self._swap is not None and self._swap.phase is Phase.STARTING:
            self._swap.fall_back(error)

    def _on_deaths(self, deaths: Sequence[Death]) -> None:
        """Nobody may notice that children died: token, successors, and the requests they had accepted."""
        workers = [death for death in deaths if death.child.kind is Kind.WORKER]
        if any(death.status == Status.SESSION_ENDED for death in workers):
            self._ended = True
            return
        self._token.restore([death.child.number for death in workers])
        self._hear_children()  # the reason may be a failure that ends the mount
        if self._ended:
            return
        swap = self._swap
        ending = None if swap is None else swap.ending
        for death in deaths:
            if death.child.kind is not ending and death.child.pid is None:
                self._replace(death)  # unless a swap that failed has started it meanwhile
        if ending is not Kind.WORKER and any(death.status != Status.STOPPED for death in workers):
            self._resend()
        if swap is not None:
            swap.go_on(workers)

    def _look(self) -> None:
        """A worker that was killed while its push waits in the kernel ends when the new one has answered."""
        self._timers.later(LOOK_SECONDS, self._look)
        deaths = self._children.leave_headless()
        if deaths:
            self._on_deaths(deaths)

    def _resend(self) -> bool:
        """Has the kernel hand out unanswered requests again. False where it cannot."""
        resent = self._session.resend()
        self._resends += resent
        return resent

    def _replace(self, death: Death) -> None:
        """Forks a successor, or goes on without where others do the work, or ends the mount."""
        ordered = death.status == Status.STOPPED
        if self._children.plan_restart(death.child):
            log.log(logging.INFO if ordered else logging.WARNING, "%s; starting another", death)
            self._children.restart_due()
        elif death.child.kind is Kind.PREFETCHER:
            log.error("%s again and again: going on without it, first reads will be slower", death)
        elif self.statistics()["workers"]:
            log.error("%s again and again: going on without it", death)
        elif self._swap is not None and self._swap.phase is Phase.STARTING:
            self._swap.fall_back(MountError(f"{death} again and again", "see the log for the reason"))
        else:
            self._failure = MountError(f"{death} again and again", "see the log for the reason")
            self._ended = True

    # -- the kernel's connection ------------------------------------------------------------------

    def _release(self) -> None:
        """No worker is left: who waits in the kernel for an answer gets an error."""
        if not self._session.refuse() and self._session.connection is not None:
            kernel_knobs.abort(self._session.connection)
