"""The arguments of NodePublishVolume as plain values, checked for form.

What may live here: that dataclass and what makes two calls the same. Who may touch it: whoever moves to
another version of the specification.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ossmount.k8s.attributes import KUBERNETES_PREFIX
from ossmount.k8s.refusal import Code, Refusal

ID_MAX = 128
"""Bytes of an identifier (specification, Size Limits)."""

TARGET_MAX = 4095
"""Bytes of a path (``PATH_MAX`` without the ending NUL)."""

FILE_SYSTEMS = frozenset({"", "ossmount", "fuse", "fuse.ossmount"})
"""What a volume may name as fsType: there is one file system here."""

READER_MODES = frozenset({"SINGLE_NODE_READER_ONLY", "MULTI_NODE_READER_ONLY"})

SINGLE_WRITER_MODES = frozenset(
    {"SINGLE_NODE_WRITER", "SINGLE_NODE_SINGLE_WRITER", "SINGLE_NODE_MULTI_WRITER"}
)
"""Accepted and mounted read-only: kubelet sends SINGLE_NODE_WRITER for every inline volume, and the others
for ReadWriteOnce claims."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One call. ``mode`` is the access mode's name in the specification. Secrets stay out of ``repr``."""

    volume_id: str
    target: str
    mode: str
    readonly: bool
    fs_type: str
    flags: Sequence[str]
    context: Mapping[str, str]
    publish_context: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)

    def check(self) -> None:
        """Raises Refusal for what no volume of this driver can have."""
        check_identity(self.volume_id, self.target)
        if self.fs_type not in FILE_SYSTEMS:
            raise Refusal(Code.INVALID_ARGUMENT, f"fsType {self.fs_type!r}: leave it empty")
        if self.mode in READER_MODES | SINGLE_WRITER_MODES:
            return
        if self.mode == "UNKNOWN":
            raise Refusal(Code.INVALID_ARGUMENT, "volume_capability has no access_mode that is known")
        if not self.readonly:
            raise Refusal(
                Code.FAILED_PRECONDITION,
                f"access mode {self.mode} asks for writing at several nodes; volumes are read-only:"
                " use ReadOnlyMany, or readOnly: true",
            )

    def arguments(self) -> str:
        """A digest of all arguments but target and secrets; what kubelet adds changes from call to call."""
        kept = {key: text for key, text in self.context.items() if not key.startswith(KUBERNETES_PREFIX)}
        fields = [self.mode, self.readonly, self.fs_type, list(self.flags), kept, dict(self.publish_context)]
        return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


def check_identity(volume_id: str, target: str, name: str = "target_path") -> None:
    """A volume id and an absolute path in plain form. Raises Refusal (INVALID_ARGUMENT)."""
    if not volume_id:
        raise Refusal(Code.INVALID_ARGUMENT, "volume_id is missing")
    if len(volume_id.encode()) > ID_MAX:
        raise Refusal(Code.INVALID_ARGUMENT, f"volume_id is longer than {ID_MAX} bytes")
    if not target:
        raise Refusal(Code.INVALID_ARGUMENT, f"{name} is missing")
    path = PurePosixPath(target)
    if not path.is_absolute() or ".." in path.parts or "\0" in target or len(path.parts) < 2:
        raise Refusal(Code.INVALID_ARGUMENT, f"{name} is not a plain absolute path")
    if len(target.encode()) > TARGET_MAX:
        raise Refusal(Code.INVALID_ARGUMENT, f"{name} is longer than {TARGET_MAX} bytes")
