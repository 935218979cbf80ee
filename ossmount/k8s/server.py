"""The CSI driver's process: its socket, its life, its log.

What may live here: start and end of ``ossmount csi``. Who may touch it: whoever changes how kubelet finds it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import socket
import stat
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from ossmount.app.logs import log_to_stderr
from ossmount.config import compose, from_environment
from ossmount.errors import MountError, SettingsError
from ossmount.k8s import schema
from ossmount.k8s.attributes import Policy
from ossmount.k8s.exchange import PATH_MAX, SIDECAR_UID
from ossmount.k8s.offers import Offers
from ossmount.k8s.processes import OrphanReaper, ended_by_signals
from ossmount.k8s.services import Identity, Node, generic_handler
from ossmount.k8s.serving import ServeByNode, ServeBySidecar
from ossmount.k8s.state import State
from ossmount.k8s.volumes import Volumes

log = logging.getLogger(__name__)

DRIVER_NAME = "ossmount.csi.dev"

CALLS = 64
"""Calls at once: a publish holds one as long as an index is built, and probes must get through."""

TIDY_SECONDS = 1.0
"""Between two looks for processes that have died."""

GRACE_SECONDS = 5.0
"""After SIGTERM, how long calls in progress may take."""

NODE_ID_MAX = 256
"""Bytes of a node id (specification, NodeGetInfoResponse)."""


@dataclass(frozen=True, slots=True)
class Driver:
    """How the driver runs. ``state`` and ``secrets`` None: beside the socket, and under ``/run/ossmount``."""

    endpoint: str
    node_id: str
    name: str = DRIVER_NAME
    state: Path | None = None
    secrets: Path | None = None
    policy: Policy = field(default_factory=Policy)
    sidecar_uid: int = SIDECAR_UID

    def run(self, environment: Mapping[str, str]) -> int:
        """Serves until SIGTERM or SIGINT. Raises SettingsError, MountError."""
        self._check()
        path = socket_path(self.endpoint)
        log_to_stderr(compose(from_environment(environment)).observability.log_format)
        claim_socket(path)
        with ended_by_signals(threading.Event()) as ending, contextlib.ExitStack() as stack:
            volumes = self._volumes(path, environment)
            stack.callback(volumes.close)
            volumes.recover()
            server = self._serve(path, volumes)
            stack.callback(lambda: path.unlink(missing_ok=True))
            stack.callback(lambda: server.stop(GRACE_SECONDS).wait())
            log.info("%s serves %s as node %s", self.name, path, self.node_id)
            reaper = OrphanReaper()
            while not select.select([ending], [], [], TIDY_SECONDS)[0]:
                look_after(volumes, reaper)
        return 0

    def _check(self) -> None:
        if not 0 < len(self.node_id.encode()) <= NODE_ID_MAX:
            raise SettingsError("--node-id is empty or too long", "give the name of the node")
        if not re.fullmatch(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?", self.name):
            raise SettingsError(
                f"--driver-name {self.name!r} is not a domain name of at most 63 characters",
                f"leave it out for {DRIVER_NAME}",
            )
        if os.geteuid() != 0:
            raise MountError(
                "the CSI driver must be root to mount for others", "run its container privileged"
            )

    def _volumes(self, path: Path, environment: Mapping[str, str]) -> Volumes:
        secrets = self.secrets or Path("/run/ossmount/csi-secrets")
        try:
            state = State(self.state or path.parent / "volumes")
            node = ServeByNode(secrets, environment, self.policy)
        except OSError as error:
            raise SettingsError(
                f"{error.filename}: {error.strerror}", "name a directory to write to"
            ) from error
        sidecar = ServeBySidecar(Offers(self.sidecar_uid))
        return Volumes(state, self.policy, node, sidecar)

    def _serve(self, path: Path, volumes: Volumes) -> grpc.Server:
        server = grpc.server(
            ThreadPoolExecutor(CALLS, thread_name_prefix="call"), options=[("grpc.so_reuseport", 0)]
        )
        for service, methods in (
            (schema.IDENTITY, Identity(self.name).methods()),
            (schema.NODE, Node(volumes, self.node_id).methods()),
        ):
            server.add_generic_rpc_handlers((generic_handler(service, methods),))
        before = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix://{path}")
        except RuntimeError as error:  # gRPC's only word for it; the reason stands above in the log
            raise SettingsError(
                f"--endpoint: no socket can be made at {path}", "name one in a directory to write to"
            ) from error
        finally:
            os.umask(before)
        server.start()
        return server


def look_after(volumes: Volumes, reaper: OrphanReaper) -> None:
    """What is done now and then. Want of descriptors or memory must not end every mount of the node."""
    try:
        volumes.tidy()
        reaper.look()
    except OSError as error:
        log.warning("cannot look for what has died: %s; trying again", error.strerror)


def socket_path(endpoint: str) -> Path:
    """The path of ``unix:///csi/csi.sock`` (or of a bare path). Raises SettingsError."""
    text = endpoint.removeprefix("unix://").removeprefix("unix:")
    path = Path(text)
    if not path.is_absolute() or "://" in text:
        raise SettingsError(f"--endpoint {endpoint!r} is no unix socket", "write unix:///csi/csi.sock")
    if len(os.fsencode(text)) > PATH_MAX:
        raise SettingsError(
            f"--endpoint: {text} is longer than the {PATH_MAX} bytes of a socket's path",
            "choose a shorter one",
        )
    return path


def claim_socket(path: Path) -> None:
    """Removes the socket that a dead driver left. Raises SettingsError where something else is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise SettingsError(
                f"{path.parent} does not exist", "mount kubelet's plugin directory there"
            ) from None
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"{path} is there and no socket", "remove it, or choose another --endpoint")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(1.0)
        try:
            other.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}", "choose another --endpoint") from error
    raise SettingsError(f"another process serves {path}", "end it first; a node has one driver")
