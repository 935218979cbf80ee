"""The commands that run in Kubernetes: ``csi`` and ``sidecar``.

What may live here: their arguments; what they do is :mod:`ossmount.k8s.entrances`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ossmount.cli.command import Context

DRIVER_NAME = "ossmount.csi.dev"
SIDECAR_UID = 65534
EXCHANGE = "/ossmount-tmp"


def csi_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the driver listens, and what its operator allows."""
    parser.add_argument("--endpoint", metavar="URL", required=True, help="socket: unix:///csi/csi.sock")
    parser.add_argument("--node-id", metavar="NAME", required=True, help="name of this node")
    parser.add_argument(
        "--driver-name", metavar="NAME", default=DRIVER_NAME, help=f"name of the driver ({DRIVER_NAME})"
    )
    parser.add_argument(
        "--state-dir", metavar="DIR", type=Path, help="what is published (volumes/ beside the socket)"
    )
    parser.add_argument(
        "--secrets-dir", metavar="DIR", type=Path, help="credentials of volumes (/run/ossmount/csi-secrets)"
    )
    parser.add_argument("--index-dir", metavar="DIR", type=Path, help="index files that volumes may name")
    parser.add_argument(
        "--local-files", action="store_true", help="volumes may show files of this container (file://)"
    )
    parser.add_argument(
        "--sidecar-uid",
        metavar="UID",
        type=int,
        default=SIDECAR_UID,
        help=f"user of sidecars ({SIDECAR_UID})",
    )


def csi(context: Context, arguments: argparse.Namespace) -> int:
    """Runs the CSI driver until it is told to end."""
    return context.kubernetes.run_csi(
        arguments.endpoint,
        arguments.node_id,
        driver_name=arguments.driver_name,
        state=arguments.state_dir,
        secrets=arguments.secrets_dir,
        index_dir=arguments.index_dir,
        local_files=arguments.local_files,
        sidecar_uid=arguments.sidecar_uid,
        environment=context.environment,
    )


def sidecar_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the plugin is met, and --check."""
    parser.add_argument(
        "--directory", metavar="DIR", type=Path, default=Path(EXCHANGE), help=f"the emptyDir ({EXCHANGE})"
    )
    parser.add_argument(
        "--plugin-uid", metavar="UID", type=int, default=0, help="user of the node plugin, as seen here (0)"
    )
    parser.add_argument("--check", action="store_true", help="startup probe: 0 when every volume is served")


def sidecar(context: Context, arguments: argparse.Namespace) -> int:
    """Serves the volumes of the Pod, or checks whether they are served."""
    if arguments.check:
        return context.kubernetes.check_sidecar(arguments.directory, arguments.plugin_uid)
    return context.kubernetes.run_sidecar(arguments.directory, arguments.plugin_uid, context.environment)
