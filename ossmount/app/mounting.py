"""Mounting: from sources and settings to a mount that serves."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ossmount.app.cache_place import cache_directory
from ossmount.app.composition import PREPARED_STORES, Plan, plan_mount, run_prefetcher, serve_worker
from ossmount.app.control_answers import open_control
from ossmount.app.daemon import descriptors_named, in_background, leave_session
from ossmount.app.exporter import close_listener
from ossmount.app.indexes import ChosenIndex, choose_index
from ossmount.app.isolation import in_child
from ossmount.app.logs import say, set_up_logging
from ossmount.app.mounts import abandon
from ossmount.app.notify import Service
from ossmount.app.refreshing import MountRefresh, PinnedIndex
from ossmount.app.runtime import MountRecord
from ossmount.cache.layered import check_cache
from ossmount.config import Settings
from ossmount.errors import CacheError, OssmountError
from ossmount.fuse import supervisor
from ossmount.fuse.contract import Callbacks
from ossmount.fuse.mountpoint import (
    Directory,
    Mountpoint,
    check_device,
    check_directory,
    making_it_alone,
    parse_mountpoint,
    resolve,
)
from ossmount.protocols import Report
from ossmount.stores import Address, import_stores, resolve_addresses

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mounting:
    """A mount about to be made: everything is decided, nothing is open."""

    mountpoint: Mountpoint
    chosen: ChosenIndex
    settings: Settings
    foreground: bool

    def run(self, on_serving: Callable[[], None]) -> int:
        """Mounts and serves until unmounted; returns the exit status."""
        with ExitStack() as turn:
            turn.enter_context(making_it_alone(self.mountpoint))

            def tell_serving() -> None:
                turn.close()
                on_serving()

            return self._run(tell_serving)

    def _run(self, on_serving: Callable[[], None]) -> int:
        set_up_logging(
            self.settings.mount, terminal=self.foreground, form=self.settings.observability.log_format
        )
        addresses = self._addresses()
        pin = PinnedIndex(self.chosen.path)
        record = MountRecord(
            mountpoint=str(self.mountpoint),
            source=self.chosen.info.source,
            index=str(self.chosen.path),
            supervisor=os.getpid(),
            generation=self.chosen.info.generation,
            served=pin.seen_from_outside,
        )
        plan = replace(self._plan(pin.path, record), addresses=addresses)
        refresh = MountRefresh(plan, pin, record, self.settings.mount.refresh)
        # A daemon in the background is not the process that a service manager started.
        service = Service.of(os.environ, os.getpid()) if self.foreground else Service()

        def tell_serving() -> None:
            on_serving()
            service.ready(f"serving {self.chosen.info.source} on {self.mountpoint}")

        def become_child() -> None:
            control.close_copies()
            if not self.foreground:
                leave_session()

        try:
            with service.watched() as timers, closing(open_control(plan, refresh.request)) as control:
                return supervisor.run_mount(
                    self.mountpoint,
                    self.settings.mount,
                    source=self.chosen.info.source,
                    serve=partial(serve_worker, plan),
                    prefetchers=len(plan.observations),
                    prefetch=partial(run_prefetcher, plan),
                    introductions=plan.introductions,
                    callbacks=Callbacks(
                        on_start=refresh.start,
                        on_hangup=refresh.request,
                        on_serving=tell_serving,
                        on_readable={**timers, control.fileno(): control.accept},
                        in_child=become_child,
                    ),
                )
        finally:
            service.stopping()
            if plan.metrics is not None:
                close_listener(plan.metrics)
            record.remove()

    def _addresses(self) -> dict[str, Address]:
        """Where the stores are; asked in a process of its own, which keeps what the SDKs load."""
        roots = self.chosen.info.stores[:PREPARED_STORES]
        import_stores(roots)
        return in_child(lambda: resolve_addresses(roots, self.settings.store))

    def _listable(self) -> Path | None:
        """Where this mount's own processes can list it, if they can."""
        mount, place = self.settings.mount, self.mountpoint
        needed = 0o500 if mount.uid in {None, os.getuid()} else 0o005
        allowed = os.geteuid() == 0 or mount.dir_mode & needed == needed
        return place.path if isinstance(place, Directory) and allowed else None

    def _plan(self, index: Path, record: MountRecord) -> Plan:
        """The plan, with the runtime directory made; leaves none behind where it fails."""
        try:
            return plan_mount(index, self.settings, record.write(), self._listable())
        except OssmountError:
            record.remove()
            raise


def mount(
    sources: Sequence[str], mountpoint: str, settings: Settings, *, foreground: bool, report: Report
) -> int:
    """Mounts ``sources``; returns 0 when the mount serves (``foreground``: after it ended).

    Raises OssmountError where it cannot, and leaves nothing behind then.
    """
    mounting = prepare(sources, mountpoint, settings, foreground=foreground, report=report)
    if foreground:
        form = settings.observability.log_format
        return mounting.run(lambda: say(f"serving {mountpoint}", form))
    named = descriptors_named([mountpoint, repr(settings), *os.environ.values()])
    return in_background(mounting.run, keep=named)


def prepare(
    sources: Sequence[str], mountpoint: str, settings: Settings, *, foreground: bool, report: Report
) -> Mounting:
    """Everything before the mount itself: checks, and the index is chosen or built. Raises OssmountError."""
    settings = anchored(settings)
    place = parse_mountpoint(mountpoint)
    if isinstance(place, Directory):
        check_device()
        if settings.mount.clean:
            abandon(resolve(place.path))
        place = check_directory(place.path, clean=settings.mount.clean)
    _check_cache(settings)
    chosen = choose_index(sources, settings, report)
    say(chosen.describe(), settings.observability.log_format)
    return Mounting(place, chosen, settings, foreground)


def anchored(settings: Settings) -> Settings:
    """``settings`` with absolute paths where the daemon, which leaves this directory, needs the file."""
    return replace(
        settings,
        store=replace(settings.store, credentials_file=_absolute(settings.store.credentials_file)),
        cache=replace(settings.cache, cache_dir=_absolute(settings.cache.cache_dir)),
        mount=replace(settings.mount, log_file=_absolute(settings.mount.log_file)),
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _check_cache(settings: Settings) -> None:
    """Says before mounting that the disk cache is no good; reading goes on without it.

    Raises CacheError where there is no cache directory at all: kept indexes live there too.
    """
    directory = cache_directory(settings.cache)
    try:
        in_child(lambda: check_cache(settings.cache, directory / "blocks"))
    except CacheError as error:
        form = settings.observability.log_format
        say(f"warning: {error}; going on without the disk cache", form, logging.WARNING)
