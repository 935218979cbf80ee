"""The Identity and Node services: messages in, plain values on, refusals as gRPC codes.

What may live here: translation, and what the driver says of itself. Who may touch it: whoever adds a
method or a capability.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from ossmount import __version__
from ossmount.k8s import schema
from ossmount.k8s.publication import Publication, check_identity
from ossmount.k8s.refusal import Code, Refusal, shown
from ossmount.k8s.volumes import Volumes

log = logging.getLogger(__name__)

CAPABILITIES = ("GET_VOLUME_STATS", "VOLUME_CONDITION", "SINGLE_NODE_MULTI_WRITER")
"""The last lets kubelet publish a ReadWriteOnce claim for two Pods of a node: nobody writes anyway."""

_ACCESS_MODE = "VolumeCapability.AccessMode.Mode"

Method = Callable[[Any], Any]


class Identity:
    """Who the plugin is."""

    def __init__(self, driver_name: str) -> None:
        self._driver_name = driver_name

    def methods(self) -> dict[str, Method]:
        """By name."""
        return {
            "GetPluginInfo": self._info,
            "GetPluginCapabilities": lambda _: schema.message("GetPluginCapabilitiesResponse")(),
            "Probe": self._probe,
        }

    def _info(self, request: Any) -> Any:
        return schema.message("GetPluginInfoResponse")(name=self._driver_name, vendor_version=__version__)

    def _probe(self, request: Any) -> Any:
        response = schema.message("ProbeResponse")()
        response.ready.value = True
        return response


class Node:
    """What the plugin does on its node."""

    def __init__(self, volumes: Volumes, node_id: str) -> None:
        self._volumes = volumes
        self._node_id = node_id

    def methods(self) -> dict[str, Method]:
        """By name."""
        return {
            "NodePublishVolume": self._publish,
            "NodeUnpublishVolume": self._unpublish,
            "NodeGetVolumeStats": self._stats,
            "NodeGetCapabilities": self._capabilities,
            "NodeGetInfo": lambda _: schema.message("NodeGetInfoResponse")(node_id=self._node_id),
        }

    def _publish(self, request: Any) -> Any:
        self._volumes.publish(publication_of(request))
        return schema.message("NodePublishVolumeResponse")()

    def _unpublish(self, request: Any) -> Any:
        check_identity(request.volume_id, request.target_path)
        self._volumes.unpublish(request.volume_id, request.target_path)
        return schema.message("NodeUnpublishVolumeResponse")()

    def _stats(self, request: Any) -> Any:
        check_identity(request.volume_id, request.volume_path, "volume_path")
        report = self._volumes.report(request.volume_id, request.volume_path)
        condition = {"abnormal": report.abnormal, "message": shown(report.message)}
        response = schema.message("NodeGetVolumeStatsResponse")(volume_condition=condition)
        if report.usage is not None:
            for unit, total in (("BYTES", report.usage.total_bytes), ("INODES", report.usage.files)):
                number = schema.value("VolumeUsage.Unit", unit)
                response.usage.add(total=total, used=total, available=0, unit=number)
        return response

    def _capabilities(self, request: Any) -> Any:
        response = schema.message("NodeGetCapabilitiesResponse")()
        for name in CAPABILITIES:
            response.capabilities.add().rpc.type = schema.value("NodeServiceCapability.RPC.Type", name)
        return response


def publication_of(request: Any) -> Publication:
    """The arguments of NodePublishVolume. Raises Refusal for a form that no volume of ours can have."""
    capability = request.volume_capability
    check_identity(request.volume_id, request.target_path)
    if not request.HasField("volume_capability") or capability.WhichOneof("access_type") is None:
        raise Refusal(Code.INVALID_ARGUMENT, "volume_capability with an access_type is missing")
    if capability.WhichOneof("access_type") == "block":
        raise Refusal(Code.INVALID_ARGUMENT, "there are no block volumes here, use volumeMode: Filesystem")
    if capability.mount.volume_mount_group:
        raise Refusal(
            Code.INVALID_ARGUMENT, "volume_mount_group is not offered: everybody may read the files"
        )
    publication = Publication(
        volume_id=request.volume_id,
        target=request.target_path,
        mode=schema.value_name(_ACCESS_MODE, capability.access_mode.mode),
        readonly=request.readonly,
        fs_type=capability.mount.fs_type,
        flags=tuple(capability.mount.mount_flags),
        context=dict(request.volume_context),
        publish_context=dict(request.publish_context),
        secrets=dict(request.secrets),
    )
    publication.check()
    return publication


def generic_handler(service: str, methods: Mapping[str, Method]) -> Any:
    """What gRPC calls for ``service``."""
    offered = {name: _rpc(name, methods[name]) for name in schema.METHODS[service]}
    return grpc.method_handlers_generic_handler(service, offered)


def _rpc(name: str, method: Method) -> Any:
    def answer(request: Any, context: Any) -> Any:
        try:
            response = method(request)
        except Refusal as refusal:
            message = shown(refusal.message)
            log.warning("%s: %s: %s", name, refusal.code, message)
            context.abort(grpc.StatusCode[refusal.code], message)
        except Exception as error:
            # Its text may hold an argument of the call, and with that a secret: the type must do.
            log.error("%s: internal error %s", name, type(error).__name__)  # noqa: TRY400 - as above
            context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}")
        return response

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=schema.message(f"{name}Request").FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
