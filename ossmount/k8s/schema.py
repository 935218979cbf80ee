"""The messages of CSI 1.12 that a node plugin speaks, as descriptors: the names and numbers of its csi.proto.

What may live here: the wire format, nothing that decides. Who may touch it: whoever moves to another
version of the specification; numbers are never changed. Messages of the Controller service are absent,
and so are fields that only the alpha topology needs.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

PACKAGE = "csi.v1"
IDENTITY = f"{PACKAGE}.Identity"
NODE = f"{PACKAGE}.Node"

Field = tuple[int, str, str]
"""(number, name, type). Types: a scalar's name, the name of a message or enum in dotted form, ``map`` for
``map<string, string>``; in front of it ``repeated`` or, for a member of a oneof, ``oneof NAME``."""

MESSAGES: dict[str, tuple[Field, ...]] = {
    "GetPluginInfoRequest": (),
    "GetPluginInfoResponse": ((1, "name", "string"), (2, "vendor_version", "string"), (3, "manifest", "map")),
    "GetPluginCapabilitiesRequest": (),
    "GetPluginCapabilitiesResponse": ((1, "capabilities", "repeated PluginCapability"),),
    "PluginCapability": (
        (1, "service", "oneof type PluginCapability.Service"),
        (2, "volume_expansion", "oneof type PluginCapability.VolumeExpansion"),
    ),
    "PluginCapability.Service": ((1, "type", "PluginCapability.Service.Type"),),
    "PluginCapability.VolumeExpansion": ((1, "type", "PluginCapability.VolumeExpansion.Type"),),
    "ProbeRequest": (),
    "ProbeResponse": ((1, "ready", "google.protobuf.BoolValue"),),
    "VolumeCapability": (
        (1, "block", "oneof access_type VolumeCapability.BlockVolume"),
        (2, "mount", "oneof access_type VolumeCapability.MountVolume"),
        (3, "access_mode", "VolumeCapability.AccessMode"),
    ),
    "VolumeCapability.BlockVolume": (),
    "VolumeCapability.MountVolume": (
        (1, "fs_type", "string"),
        (2, "mount_flags", "repeated string"),
        (3, "volume_mount_group", "string"),
    ),
    "VolumeCapability.AccessMode": ((1, "mode", "VolumeCapability.AccessMode.Mode"),),
    "NodePublishVolumeRequest": (
        (1, "volume_id", "string"),
        (2, "publish_context", "map"),
        (3, "staging_target_path", "string"),
        (4, "target_path", "string"),
        (5, "volume_capability", "VolumeCapability"),
        (6, "readonly", "bool"),
        (7, "secrets", "map"),
        (8, "volume_context", "map"),
    ),
    "NodePublishVolumeResponse": (),
    "NodeUnpublishVolumeRequest": ((1, "volume_id", "string"), (2, "target_path", "string")),
    "NodeUnpublishVolumeResponse": (),
    "NodeGetVolumeStatsRequest": (
        (1, "volume_id", "string"),
        (2, "volume_path", "string"),
        (3, "staging_target_path", "string"),
    ),
    "NodeGetVolumeStatsResponse": (
        (1, "usage", "repeated VolumeUsage"),
        (2, "volume_condition", "VolumeCondition"),
    ),
    "VolumeUsage": (
        (1, "available", "int64"),
        (2, "total", "int64"),
        (3, "used", "int64"),
        (4, "unit", "VolumeUsage.Unit"),
    ),
    "VolumeCondition": ((1, "abnormal", "bool"), (2, "message", "string")),
    "NodeGetCapabilitiesRequest": (),
    "NodeGetCapabilitiesResponse": ((1, "capabilities", "repeated NodeServiceCapability"),),
    "NodeServiceCapability": ((1, "rpc", "oneof type NodeServiceCapability.RPC"),),
    "NodeServiceCapability.RPC": ((1, "type", "NodeServiceCapability.RPC.Type"),),
    "NodeGetInfoRequest": (),
    "NodeGetInfoResponse": (
        (1, "node_id", "string"),
        (2, "max_volumes_per_node", "int64"),
        (3, "accessible_topology", "Topology"),
    ),
    "Topology": ((1, "segments", "map"),),
}
"""Nested messages stand behind the one that holds them."""

ENUMS: dict[str, tuple[str, ...]] = {
    "PluginCapability.Service.Type": (
        "UNKNOWN",
        "CONTROLLER_SERVICE",
        "VOLUME_ACCESSIBILITY_CONSTRAINTS",
        "GROUP_CONTROLLER_SERVICE",
        "SNAPSHOT_METADATA_SERVICE",
    ),
    "PluginCapability.VolumeExpansion.Type": ("UNKNOWN", "ONLINE", "OFFLINE"),
    "VolumeCapability.AccessMode.Mode": (
        "UNKNOWN",
        "SINGLE_NODE_WRITER",
        "SINGLE_NODE_READER_ONLY",
        "MULTI_NODE_READER_ONLY",
        "MULTI_NODE_SINGLE_WRITER",
        "MULTI_NODE_MULTI_WRITER",
        "SINGLE_NODE_SINGLE_WRITER",
        "SINGLE_NODE_MULTI_WRITER",
    ),
    "VolumeUsage.Unit": ("UNKNOWN", "BYTES", "INODES"),
    "NodeServiceCapability.RPC.Type": (
        "UNKNOWN",
        "STAGE_UNSTAGE_VOLUME",
        "GET_VOLUME_STATS",
        "EXPAND_VOLUME",
        "VOLUME_CONDITION",
        "SINGLE_NODE_MULTI_WRITER",
        "VOLUME_MOUNT_GROUP",
    ),
}
"""Values by number, from 0."""

METHODS: dict[str, tuple[str, ...]] = {
    IDENTITY: ("GetPluginInfo", "GetPluginCapabilities", "Probe"),
    NODE: (
        "NodePublishVolume",
        "NodeUnpublishVolume",
        "NodeGetVolumeStats",
        "NodeGetCapabilities",
        "NodeGetInfo",
    ),
}
"""The methods that are offered; each takes NAMERequest and gives NAMEResponse. gRPC itself answers
UNIMPLEMENTED to all others."""

_SCALARS = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
}


def _place(file: descriptor_pb2.FileDescriptorProto, name: str) -> tuple[Any, str]:
    """The list that the message or enum ``name`` is added to, with its last name."""
    *above, last = name.split(".")
    holder: Any = file
    for part in above:
        within = holder.message_type if holder is file else holder.nested_type
        holder = next(message for message in within if message.name == part)
    return holder, last


def _add_message(file: descriptor_pb2.FileDescriptorProto, name: str, fields: tuple[Field, ...]) -> None:
    holder, last = _place(file, name)
    message = (holder.message_type if holder is file else holder.nested_type).add(name=last)
    for number, field_name, kind in fields:
        _add_field(message, f".{PACKAGE}.{name}", number, field_name, kind)


def _add_field(message: Any, full_name: str, number: int, name: str, kind: str) -> None:
    field = message.field.add(
        name=name, number=number, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    )
    *words, kind = kind.split(" ")
    if words[:1] == ["repeated"]:
        field.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    elif words[:1] == ["oneof"]:
        if words[1] not in {one.name for one in message.oneof_decl}:
            message.oneof_decl.add(name=words[1])
        field.oneof_index = [one.name for one in message.oneof_decl].index(words[1])
    if kind == "map":
        _make_map(message, full_name, field)
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        is_enum = kind in ENUMS
        proto = descriptor_pb2.FieldDescriptorProto
        field.type = proto.TYPE_ENUM if is_enum else proto.TYPE_MESSAGE
        field.type_name = f".{kind}" if kind.startswith("google.") else f".{PACKAGE}.{kind}"


def _make_map(message: Any, full_name: str, field: Any) -> None:
    """``map<string, string>`` is a repeated nested message of key and value (protobuf, Maps)."""
    entry_name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    for number, name in ((1, "key"), (2, "value")):
        _add_field(entry, f"{full_name}.{entry_name}", number, name, "string")
    field.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    field.type_name = f"{full_name}.{entry_name}"


def _pool() -> descriptor_pool.DescriptorPool:
    """A pool of our own, so that another csi.proto in the same process does no harm."""
    file = descriptor_pb2.FileDescriptorProto(name="ossmount/csi.proto", package=PACKAGE, syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in MESSAGES.items():
        _add_message(file, name, fields)
    for name, values in ENUMS.items():
        holder, last = _place(file, name)
        enum = holder.enum_type.add(name=last)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _pool()


def message(name: str) -> Any:
    """The class of a message, by its name in the specification (``VolumeCapability.AccessMode``)."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def value(enum: str, name: str) -> int:
    """The number of an enum's value."""
    return ENUMS[enum].index(name)


def value_name(enum: str, number: int) -> str:
    """The name of an enum's number; UNKNOWN for one that a newer specification has."""
    names = ENUMS[enum]
    return names[number] if 0 <= number < len(names) else names[0]
