"""The functions behind the commands ``csi`` and ``sidecar``.

What may live here: nothing but these two entrances; gRPC is imported by the one that needs it. Who may
touch it: whoever adds a command that runs in Kubernetes, together with ``ossmount.cli.application``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ossmount.k8s.sidecar import Sidecar


def run_csi(
    endpoint: str,
    node_id: str,
    *,
    driver_name: str,
    state: Path | None,
    secrets: Path | None,
    index_dir: Path | None,
    local_files: bool,
    sidecar_uid: int,
    environment: Mapping[str, str],
) -> int:
    """Runs the CSI driver until SIGTERM; see :class:`ossmount.k8s.server.Driver`."""
    from ossmount.k8s.attributes import Policy
    from ossmount.k8s.server import Driver

    policy = Policy(local_files, index_dir)
    driver = Driver(endpoint, node_id, driver_name, state, secrets, policy, sidecar_uid)
    return driver.run(environment)


def run_sidecar(directory: Path, plugin_uid: int, environment: Mapping[str, str]) -> int:
    """Serves the volumes of the Pod until SIGTERM."""
    return Sidecar(directory, plugin_uid).run(environment)


def check_sidecar(directory: Path, plugin_uid: int) -> int:
    """0 when every volume of the Pod is served."""
    return Sidecar(directory, plugin_uid).check()
