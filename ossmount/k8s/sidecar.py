"""The sidecar's process: fetches descriptors from the node plugin and serves them, with no privilege at all.

What may live here: the life of ``ossmount sidecar``. Each volume has a thread that waits for an offer,
starts the volume's process on the descriptor, and says in ``sidecar/`` how it is (see ``exchange``). The
descriptor is closed here as soon as the process has it: when that one dies programs get ENOTCONN at once.
Who may touch it: whoever changes the exchange, together with ``offers``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ossmount.app.logs import log_to_stderr
from ossmount.config import compose, from_environment
from ossmount.errors import MountError, OssmountError, SettingsError
from ossmount.k8s import credentials
from ossmount.k8s.exchange import (
    CREDENTIALS,
    ERROR_FILE,
    EXCHANGE_SECONDS,
    FILE_MAX,
    SIDECAR,
    SOCKET,
    STATUS_FILE,
    VERSION,
    VOLUMES,
    Offer,
    encode_failure,
    failure_told,
    peer_uid,
    receive,
)
from ossmount.k8s.folder import Folder, folders
from ossmount.k8s.processes import Identity, ended_by_signals, is_alive, kill_group, wait_for_end
from ossmount.k8s.spawning import Job, base_environment, start

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Between two looks for an offer. They come before the sidecar starts, and after the plugin mounted anew."""

END_SECONDS = 10.0
"""After SIGTERM, how long a volume's process may take to answer what it has accepted."""

WAIT_SLICE_SECONDS = 0.5
"""How long a thread waits before it looks whether the sidecar is to end."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The sidecar of one Pod: its emptyDir, and the user of the node plugin as seen from here."""

    directory: Path
    plugin_uid: int = 0

    def run(self, environment: Mapping[str, str]) -> int:
        """Serves until SIGTERM. Raises SettingsError where there is nothing to serve."""
        log_to_stderr(compose(from_environment(environment)).observability.log_format)
        stop = threading.Event()
        with ended_by_signals(stop) as ending:
            keepers = [
                Keeper(self.directory, name, self.plugin_uid, base_environment(environment), stop, ending)
                for name in self.volumes()
            ]
            threads = [threading.Thread(target=keeper.run, name=keeper.name) for keeper in keepers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return 0

    def volumes(self) -> list[str]:
        """The volumes of the Pod: kubelet starts containers when all of them are published."""
        try:
            with folders(self.directory, VOLUMES) as found:
                found.must_belong_to(self.plugin_uid)
                names = found.names()
        except PermissionError as error:
            raise SettingsError(
                f"{self.directory / VOLUMES}: {error.strerror}", "see --plugin-uid"
            ) from error
        except OSError as error:
            raise SettingsError(
                f"{self.directory / VOLUMES}: {error.strerror}",
                "mount the emptyDir 'ossmount-tmp' there, and set serve: sidecar in the volume's attributes",
            ) from error
        if not names:
            raise SettingsError(f"{self.directory} has no volume to serve", "see docs/kubernetes.md")
        return names

    def check(self) -> int:
        """The startup probe: 0 when every volume is served, 1 with a line for one that is not."""
        for name in self.volumes():
            problem = self._problem(name)
            if problem:
                sys.stderr.write(f"ossmount: volume {name}: {problem}\n")
                return 1
        return 0

    def _problem(self, name: str) -> str:
        try:
            with folders(self.directory, VOLUMES, name, SIDECAR) as own:
                error, status = own.read(ERROR_FILE, FILE_MAX), own.read(STATUS_FILE, FILE_MAX)
        except OSError as failed:
            return f"its directory {SIDECAR}: {failed.strerror}; see --sidecar-uid of the driver"
        if error is not None:
            return failure_told(error) or "it has failed, see the log"
        if status is None:
            return "not served yet"
        return "" if is_alive(Identity(**json.loads(status)["process"])) else "its process has died"


class Keeper:
    """One volume: offer, process, end, and again."""

    def __init__(
        self,
        directory: Path,
        name: str,
        plugin_uid: int,
        environment: Mapping[str, str],
        stop: threading.Event,
        ending: int | None = None,
    ) -> None:
        """``ending`` can be read once ``stop`` is set: who waits for a process to serve then gives up."""
        self.name = name
        self._directory = directory
        self._folder = directory / VOLUMES / name
        self._plugin_uid = plugin_uid
        self._environment = dict(environment)
        self._stop = stop
        self._ending = ending
        self._failure = ""

    def __repr__(self) -> str:
        return f"<Keeper {self._folder}>"

    def run(self) -> None:
        """Until the sidecar ends. What goes wrong is written to the error file, and another offer awaited."""
        self._guarded(self._begin)
        while not self._stop.wait(LOOK_SECONDS):
            self._guarded(self._serve_one)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OssmountError as error:
            if not self._stop.is_set():
                self._fail(error)
        except OSError as error:
            self._fail(MountError(f"{error.filename or SOCKET}: {error.strerror or error}"))

    def _begin(self) -> None:
        """Clears what an earlier sidecar said. Raises MountError where nothing can be fetched."""
        with contextlib.suppress(OSError), self._own() as own:
            own.remove(STATUS_FILE)
            own.remove(ERROR_FILE)
            if socket_is_missing(self._folder):
                raise MountError("no descriptor is offered: the sidecar was started anew")

    @contextlib.contextmanager
    def _own(self) -> Iterator[Folder]:
        """The directory that belongs to the sidecar. Raises OSError."""
        with folders(self._directory, VOLUMES, self.name, SIDECAR) as own:
            yield own

    def _fail(self, error: OssmountError) -> None:
        """Says what is wrong, once in the log however often it is found."""
        if str(error) == self._failure:
            return
        self._failure = str(error)
        log.error("volume %s: %s", self.name, error)
        with contextlib.suppress(OSError), self._own() as own:
            own.write(ERROR_FILE, encode_failure(error))
            own.remove(STATUS_FILE)

    def _serve_one(self) -> None:
        """Fetches a descriptor, if one is offered, and serves it until its mount ends."""
        fetched = self._fetch()
        if fetched is None:
            return
        offer, descriptor = fetched
        try:
            process = self._start(offer, descriptor)
        finally:
            os.close(descriptor)
        log.info("volume %s: serving", self.name)
        while not wait_for_end(process, WAIT_SLICE_SECONDS):
            if self._stop.is_set():
                self._end(process)
        self._after(process)

    def _fetch(self) -> tuple[Offer, int] | None:
        if not self._folder.is_dir():
            return None  # unpublished; it may be published again
        with folders(self._directory, VOLUMES) as volumes:
            volumes.must_belong_to(self._plugin_uid)
            with volumes.child(self.name) as folder, socket.socket(socket.AF_UNIX) as connection:
                folder.must_belong_to(self._plugin_uid)
                if socket_is_missing(self._folder):
                    return None
                connection.settimeout(EXCHANGE_SECONDS)
                try:
                    connection.connect(folder.path(SOCKET))
                except (FileNotFoundError, ConnectionRefusedError):
                    return None  # of a plugin that ended; another makes the offer again
                user = peer_uid(connection)
                if user != self._plugin_uid:
                    raise MountError(
                        f"user {user} listens on the socket of volume {self.name} instead of the node plugin",
                        "see which container of the Pod writes into ossmount-tmp",
                    )
                return receive(connection)

    def _start(self, offer: Offer, descriptor: int) -> Identity:
        """The volume's process, serving. Raises OssmountError, OSError."""
        keys = self._folder / CREDENTIALS
        environment = credentials.environment(self._environment, keys, self._folder / SIDECAR)
        environment |= {
            "OSSMOUNT_RUNTIME_DIR": str(self._directory / ".run" / self.name),
            "XDG_CACHE_HOME": environment.get("XDG_CACHE_HOME", str(self._directory / ".cache")),
            # The root may be read-only; what is fetched to be read once has no name and needs a place.
            "TMPDIR": environment.get("TMPDIR", str(self._directory)),
        }
        job = Job(offer.sources, f"/dev/fd/{descriptor}", offer.options | credentials.options(keys))
        return start(job, environment, serving=self._serving, descriptor=descriptor, given_up=self._ending)

    def _serving(self, process: Identity) -> None:
        self._failure = ""
        with self._own() as own:
            own.remove(ERROR_FILE)
            own.write(STATUS_FILE, json.dumps({"version": VERSION, "process": asdict(process)}))

    def _end(self, process: Identity) -> None:
        """SIGTERM: what was accepted is answered, then the mount is dead."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        if not wait_for_end(process, END_SECONDS):
            kill_group(process)

    def _after(self, process: Identity) -> None:
        """The process has ended: in order, after an unmount, or it died."""
        with contextlib.suppress(OSError), self._own() as own:
            own.remove(STATUS_FILE)
        if self._stop.is_set():
            return
        if not self._folder.is_dir():
            log.info("volume %s was unpublished", self.name)
            return
        self._fail(MountError(f"the process of volume {self.name} has ended", "see the sidecar's log"))


def socket_is_missing(folder: Path) -> bool:
    """Whether there is no socket in ``folder``. Raises MountError where something else is there."""
    try:
        mode = (folder / SOCKET).lstat().st_mode
    except FileNotFoundError:
        return True
    if not stat.S_ISSOCK(mode):
        raise MountError(f"{folder / SOCKET} is no socket", "see which container of the Pod made it")
    return False
