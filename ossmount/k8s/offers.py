"""The plugin's side of the hand-over: mounts whose descriptor waits until the sidecar fetches it.

What may live here: listening, checking who comes, handing over. Containers of a Pod start only after all
its volumes were published, so a publish makes the offer and returns; this thread does the rest. Who may
touch it: whoever changes the exchange, together with the sidecar.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ossmount.k8s.credentials import Credentials, write
from ossmount.k8s.exchange import (
    CREDENTIALS,
    EMPTY_DIR,
    ERROR_FILE,
    FILE_MAX,
    SIDECAR,
    SOCKET,
    STATUS_FILE,
    VOLUMES,
    Offer,
    peer_uid,
    send,
    volume_of,
)
from ossmount.k8s.folder import Folder, folders
from ossmount.k8s.refusal import Code, Refusal

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""After the system had no descriptor to spare."""


@dataclass(frozen=True, slots=True)
class Place:
    """The exchange directory of one volume, seen from the node."""

    empty_dir: Path
    volume: str

    @classmethod
    def of(cls, target: str) -> Place:
        """The place that belongs to kubelet's target path. Raises Refusal."""
        try:
            volumes, name = volume_of(target)
        except ValueError:
            raise Refusal(
                Code.INVALID_ARGUMENT,
                f"{target} is not a target path of kubelet (…/kubernetes.io~csi/VOLUME/mount), from which the"
                " emptyDir of the sidecar is found",
            ) from None
        return cls(Path(volumes) / "kubernetes.io~empty-dir" / EMPTY_DIR, name)

    def make(self, sidecar: int) -> None:
        """Makes the directories, and clears what an earlier offer left. Raises Refusal, OSError."""
        if not self.empty_dir.is_dir():
            raise Refusal(
                Code.FAILED_PRECONDITION, f"serve=sidecar needs an emptyDir named {EMPTY_DIR!r} in the Pod"
            )
        me = os.geteuid()
        try:
            with (
                Folder.open(self.empty_dir) as top,
                top.make(VOLUMES, me, 0o755) as volumes,
                volumes.make(self.volume, me, 0o755) as own,
                own.make(CREDENTIALS, me, 0o755),
                own.make(SIDECAR, sidecar, 0o700) as status,
            ):
                _check_squatter(own, me, sidecar)
                own.remove(SOCKET)
                for name in status.names():
                    status.remove_any(name)
        except (PermissionError, NotADirectoryError) as error:
            raise Refusal(
                Code.FAILED_PRECONDITION,
                f"the exchange directory in {EMPTY_DIR!r} belongs to somebody else: {error.strerror}",
            ) from error

    def write_credentials(self, credentials: Credentials, sidecar: int) -> None:
        """Writes or renews the credentials for the sidecar's user. Raises OSError."""
        with folders(self.empty_dir, VOLUMES, self.volume, CREDENTIALS) as folder:
            write(credentials, folder, sidecar)

    def read(self, name: str) -> str | None:
        """A file that the sidecar wrote (untrusted, at most FILE_MAX bytes); None where it is missing."""
        with contextlib.suppress(OSError), folders(self.empty_dir, VOLUMES, self.volume, SIDECAR) as folder:
            return folder.read(name, FILE_MAX)
        return None

    def status(self) -> str | None:
        """The sidecar's last status."""
        return self.read(STATUS_FILE)

    def error(self) -> str | None:
        """What the sidecar last failed with."""
        return self.read(ERROR_FILE)

    def remove(self) -> None:
        """Removes the volume's directory; what others put in the way stays."""
        with contextlib.suppress(OSError), folders(self.empty_dir, VOLUMES) as volumes:
            volumes.remove_folder(self.volume)

    def listen(self, sidecar: int) -> socket.socket:
        """The socket, for the sidecar's user only. Raises OSError."""
        with folders(self.empty_dir, VOLUMES, self.volume) as own:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                listening.bind(own.path(SOCKET))  # short, however long the path of the Pod is
                os.chown(SOCKET, sidecar, -1, dir_fd=own.fd, follow_symlinks=False)
                os.chmod(own.path(SOCKET), 0o600)  # noqa: PTH101 - by descriptor
                listening.listen(4)
                listening.setblocking(False)
            except BaseException:
                listening.close()
                raise
            return listening


def _check_squatter(own: Folder, *allowed: int) -> None:
    owner = own.owner(SOCKET)
    if owner is not None and owner not in allowed:
        raise PermissionError(1, f"user {owner} put something where the socket belongs")


@dataclass(frozen=True, slots=True)
class _Waiting:
    place: Place
    offer: Offer
    descriptor: int
    listening: socket.socket
    handed: Callable[[], None]

    def close(self) -> None:
        """Closes both; unless the descriptor was handed over the mount is dead then."""
        os.close(self.descriptor)
        self.listening.close()
        with contextlib.suppress(OSError), folders(self.place.empty_dir, VOLUMES, self.place.volume) as own:
            own.remove(SOCKET)


class Offers:
    """Open offers by target, served by one thread. Thread-safe."""

    def __init__(self, sidecar: int) -> None:
        self.sidecar = sidecar
        """User id that may fetch descriptors."""
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}
        self._wakeup, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="offers", daemon=True)
        self._stopping = False
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Offers {sorted(self._waiting)}>"

    def make(
        self, target: str, place: Place, offer: Offer, descriptor: int, handed: Callable[[], None]
    ) -> None:
        """Offers ``descriptor``, which is this object's from now on; ``handed`` is called when it is gone."""
        try:
            listening = place.listen(self.sidecar)
        except BaseException:
            os.close(descriptor)
            raise
        with self._lock:
            self._waiting[target] = _Waiting(place, offer, descriptor, listening, handed)
        self._wake()

    def is_waiting(self, target: str) -> bool:
        """Whether the descriptor has not been fetched yet."""
        with self._lock:
            return target in self._waiting

    def withdraw(self, target: str) -> None:
        """Ends the offer, if there is one; its mount is dead then."""
        with self._lock:
            waiting = self._waiting.pop(target, None)
            if waiting is not None:
                waiting.close()
        self._wake()

    def close(self) -> None:
        """Withdraws all offers and ends the thread."""
        self._stopping = True
        self._wake()
        self._thread.join()
        for target in list(self._waiting):
            self.withdraw(target)
        self._wakeup.close()
        self._waker.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"w")

    def _serve(self) -> None:
        while not self._stopping:
            try:
                self._wait()
            except OSError as error:  # no descriptor or memory to spare: nobody else serves offers
                log.warning("cannot wait for sidecars: %s; trying again", error.strerror)
                time.sleep(PAUSE_SECONDS)

    def _wait(self) -> None:
        """Until somebody comes for a descriptor, or something else is to be done."""
        with self._lock:
            listening = {waiting.listening: target for target, waiting in self._waiting.items()}
            selector = selectors.DefaultSelector()
            selector.register(self._wakeup, selectors.EVENT_READ)
            for one in listening:
                selector.register(one, selectors.EVENT_READ)
        with selector:
            ready = [key.fileobj for key, _ in selector.select()]
        for fileobj in ready:
            if fileobj is self._wakeup:
                self._wakeup.recv(4096)
            else:
                self._meet(listening[fileobj])  # type: ignore[index]

    def _meet(self, target: str) -> None:
        """Somebody came for the descriptor of ``target``."""
        with self._lock:
            waiting = self._waiting.get(target)
            if waiting is None:
                return
            try:
                connection, _ = waiting.listening.accept()
            except OSError:
                return
            with connection:
                if self._hand_over(waiting, connection):
                    del self._waiting[target]
                    waiting.close()
                    waiting.handed()

    def _hand_over(self, waiting: _Waiting, connection: socket.socket) -> bool:
        user = peer_uid(connection)
        if user != self.sidecar:
            log.warning("volume %s: user %d is not the sidecar's, sent away", waiting.offer.volume, user)
            return False
        try:
            send(connection, waiting.offer, waiting.descriptor)
        except OSError as error:
            log.warning("volume %s: the sidecar went away: %s", waiting.offer.volume, error)
            return False
        log.info("volume %s: handed over to the sidecar", waiting.offer.volume)
        return True
