"""The two ways in which a volume is served: by a process of the node plugin, or by the sidecar of the Pod.

What may live here: what differs between them; :mod:`ossmount.k8s.volumes` keeps the order of steps. Who
may touch it: whoever adds a third way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ossmount.app.cache_place import cache_directory
from ossmount.app.runtime import remove_record
from ossmount.fuse.handing_over import mount_descriptor
from ossmount.k8s import credentials as files
from ossmount.k8s.attributes import Policy
from ossmount.k8s.credentials import Credentials
from ossmount.k8s.exchange import Offer, failure_told
from ossmount.k8s.folder import Folder
from ossmount.k8s.mounter import settings_of
from ossmount.k8s.offers import Offers, Place
from ossmount.k8s.processes import Identity, is_alive, kill_group, wait_for_end
from ossmount.k8s.refusal import Code, Refusal
from ossmount.k8s.spawning import Job, base_environment, start
from ossmount.k8s.state import Phase, Record, State, digest

log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""How long an unmounted volume's process may take to end (its workers get five seconds)."""

BUSY_SECONDS = 2.0
"""How long whoever still has files of an unpublished volume open is served. Its Pod has ended by then."""


class ServeByNode:
    """A process for each volume, a child of the plugin in its container."""

    def __init__(self, secrets: Path, environment: Mapping[str, str], policy: Policy) -> None:
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        secrets.chmod(0o700)
        self._secrets = secrets
        self._environment = base_environment(environment)
        self._policy = policy
        self._ending = os.eventfd(0)

    def __repr__(self) -> str:
        return f"<ServeByNode secrets={self._secrets}>"

    def mount(self, record: Record, credentials: Credentials | None, state: State) -> None:
        """Mounts and serves. Raises OssmountError, OSError."""
        if credentials is not None:
            self.renew(record, credentials)
        directory = self._directory(record)
        job = Job(record.sources, record.target, self._options(record) | files.options(directory))
        start(
            job,
            files.environment(self._defaults(record), directory, directory),
            started=lambda process: _remember(state, record, Phase.PUBLISHING, process),
            serving=lambda process: _remember(state, record, Phase.PUBLISHED, process),
            given_up=self._ending,
        )

    def _defaults(self, record: Record) -> dict[str, str]:
        """The driver's environment; an index of the node is only read, whatever the defaults are."""
        writing = {"OSSMOUNT_REFRESH", "OSSMOUNT_REBUILD"} if "index" in record.options else frozenset()
        return {name: value for name, value in self._environment.items() if name not in writing}

    def _options(self, record: Record) -> dict[str, str]:
        """The volume's options, and what the node decides: who may read, and what is cached together."""
        settings = settings_of({}, self._environment)
        cache = cache_directory(settings.cache) / (f"ns-{record.tenant}" if record.tenant else "shared")
        return record.options | {
            "allow_other": "true",
            "cache_dir": str(cache),
            "local_files": "true" if self._policy.local_files else "false",
        }

    def renew(self, record: Record, credentials: Credentials) -> None:
        """Writes the credentials files that the process reads again. Raises OSError."""
        with Folder.open(self._secrets) as secrets:
            if credentials.files:
                with secrets.make(digest(record.target), _me(secrets), 0o700) as folder:
                    files.write(credentials, folder)
            else:
                secrets.remove_folder(digest(record.target))

    def problem(self, record: Record) -> str | None:
        """Why the volume does not serve, None where it does."""
        return None if is_alive(record.process) else "the process of the mount has died"

    def answers(self, record: Record) -> bool:
        """Whether somebody answers what is asked of the mount."""
        return is_alive(record.process)

    def withdraw(self, record: Record) -> None:
        """Nothing is offered."""

    def end(self, record: Record, busy: bool) -> None:
        """Waits for the process of an unmounted volume to end; kills one that does not."""
        seconds = BUSY_SECONDS if busy else END_SECONDS
        if record.process is not None and not wait_for_end(record.process, seconds):
            log.warning("volume %s: its process does not end and is killed", record.volume_id)
            kill_group(record.process)

    def forget(self, record: Record) -> None:
        """Removes the credentials, and what a process that was killed left."""
        remove_record(record.target)
        with Folder.open(self._secrets) as secrets:
            secrets.remove_folder(digest(record.target))

    def close(self) -> None:
        """The processes stay, but for those that do not serve yet: who waits for one gives up."""
        os.eventfd_write(self._ending, 1)

    def _directory(self, record: Record) -> Path:
        return self._secrets / digest(record.target)


def _me(folder: Folder) -> int:
    owner = folder.owner(".")
    return 0 if owner is None else owner


def _remember(state: State, record: Record, phase: Phase, process: Identity) -> None:
    state.write(replace(record, phase=phase, process=process))


class ServeBySidecar:
    """The plugin mounts, and offers the descriptor to the sidecar of the Pod."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers

    def __repr__(self) -> str:
        return f"<ServeBySidecar {self._offers!r}>"

    def mount(self, record: Record, credentials: Credentials | None, state: State) -> None:
        """Mounts, and offers the descriptor; returns before it is fetched. Raises Refusal, OSError."""
        place = Place.of(record.target)
        place.make(self._offers.sidecar)
        if credentials is not None:
            place.write_credentials(credentials, self._offers.sidecar)
        settings = settings_of(record.options, {}).mount
        source = next(iter(record.sources), record.options.get("manifest", "ossmount"))
        handed = mount_descriptor(Path(record.target), settings, source, self._offers.sidecar)
        offered = replace(record, connection=handed.connection, phase=Phase.OFFERED)
        published = replace(offered, phase=Phase.PUBLISHED)
        try:
            state.write(offered)
        except OSError:
            os.close(handed.fd)
            raise
        offer = Offer(place.volume, record.sources, record.options)
        self._offers.make(record.target, place, offer, handed.fd, lambda: _write(state, published))

    def renew(self, record: Record, credentials: Credentials) -> None:
        """Writes the credentials files that the sidecar reads again. Raises OSError."""
        Place.of(record.target).write_credentials(credentials, self._offers.sidecar)

    def problem(self, record: Record) -> str | None:
        """Why the volume does not serve and will not, None where it does or may yet."""
        if record.phase is Phase.OFFERED:
            return None if self._offers.is_waiting(record.target) else "the offer was lost"
        text = Place.of(record.target).error()
        if text is None:
            return None
        message = failure_told(text)
        return f"the sidecar failed: {message}" if message else "the sidecar failed"

    def answers(self, record: Record) -> bool:
        """Whether the sidecar says that it serves."""
        return record.phase is Phase.PUBLISHED and Place.of(record.target).status() is not None

    def withdraw(self, record: Record) -> None:
        """Ends the offer."""
        self._offers.withdraw(record.target)

    def end(self, record: Record, busy: bool) -> None:
        """The sidecar's process ends by itself when its mount is gone."""

    def forget(self, record: Record) -> None:
        """Removes the exchange directory."""
        try:
            Place.of(record.target).remove()
        except Refusal as refusal:
            if refusal.code is not Code.INVALID_ARGUMENT:
                raise

    def close(self) -> None:
        """Withdraws all offers: another plugin makes them again."""
        self._offers.close()


def _write(state: State, record: Record) -> None:
    try:
        state.write(record)
    except OSError as error:  # the descriptor is gone already: a later start offers a new one
        log.warning("volume %s: its record cannot be written: %s", record.volume_id, error.strerror)
