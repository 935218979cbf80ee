"""Volume attributes and mount options of a Pod or PersistentVolume as the options of ``ossmount mount``.

What may live here: which attributes there are, and which a volume may not set. The author of a Pod writes
them and the node plugin runs as root: whatever names a file, a program or an identity of the node is
refused here. Who may touch it: whoever adds an option to :mod:`ossmount.config` that does so too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from ossmount.app.views import is_view_file
from ossmount.config import ALL_OPTIONS, parse_bool, parse_value
from ossmount.errors import SettingsError
from ossmount.k8s.refusal import Code, Refusal
from ossmount.uris import FILE_ROOT, parse_uri

KUBERNETES_PREFIX = "csi.storage.k8s.io/"
"""What kubelet adds to the context: Pod information, ``ephemeral``, service account tokens."""

TOKENS_KEY = f"{KUBERNETES_PREFIX}serviceAccount.tokens"
NAMESPACE_KEY = f"{KUBERNETES_PREFIX}pod.namespace"

SOURCE = "source"
SERVE = "serve"
ROLE_ARN = "role-arn"
OWN_ATTRIBUTES = (SOURCE, SERVE, ROLE_ARN)
"""Attributes beside the options: the URI, who serves, and the AWS role of the service account."""

REFUSED = {
    "manifest_parser": "it would run a program on the node",
    "credentials_file": "it would read a file of the node; give the keys as nodePublishSecretRef",
    "profile": "it would use the node's credentials; give keys as nodePublishSecretRef",
    "ecs_ram_role": "it would use the node's identity; the driver itself may be given it",
    "cache_dir": "the driver decides where the node keeps data",
    "log_file": "it would write a file on the node; the driver's log has the lines",
    "local_files": "the driver decides that for the whole node (--local-files)",
    "clean": "the driver cleans dead mounts by itself",
    "metrics_listen": "it would open a port of the node",
}
"""Options that no volume served by the node may set, and why. Names that ``config`` does not have (yet) do
no harm."""

REFUSED_TO_SIDECARS = frozenset({"clean"})
"""Those of them that no other volume may set either: what else they name is the Pod's own in a sidecar."""

LIMITS = {"workers": 16, "prefetchers": 16}
"""Processes that one volume may ask for: more help nobody, and the node is shared."""

IGNORED_FLAGS = frozenset({"ro", "noatime", "nodiratime", "nodev", "nosuid", "noexec", "relatime", "_netdev"})
"""Mount flags that ask nothing of a read-only file system."""

PLACES = ("manifest", "objects", "base_uri")
"""Options whose text is a place: a URI, or else a path."""


class Serve(StrEnum):
    """Who serves a volume: a process of the node plugin, or the sidecar of the Pod."""

    NODE = "node"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the driver's operator allows. ``index_dir`` holds the index files that volumes may name."""

    local_files: bool = False
    index_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a volume asks for: sources, options as text by option name, who serves, its role, its tenant.

    ``tenant`` names whose data may be cached together: the Pod's namespace, "" where nobody told.
    """

    sources: tuple[str, ...]
    options: dict[str, str]
    serve: Serve
    role_arn: str
    tenant: str


def wanted(context: Mapping[str, str], flags: Iterable[str], policy: Policy) -> Wanted:
    """What ``context`` (volume attributes) and ``flags`` (mountOptions) ask for. Raises Refusal."""
    attributes = [(key, value) for key, value in context.items() if not key.startswith(KUBERNETES_PREFIX)]
    asked = dict([*attributes, *_flag_words(flags)])
    own = {key: asked[key] for key in OWN_ATTRIBUTES if key in asked}
    serve = _serve(own.get(SERVE, Serve.NODE))
    options: dict[str, str] = {}
    for key, value in asked.items():
        if "\0" in value:
            raise _invalid(f"volume attribute {key}: {value!r} holds a NUL byte")
        if key not in own:
            name = _option_name(key, serve)
            _check_value(name, key, value)
            options[name] = value
    found = Wanted(
        sources=(own[SOURCE],) if own.get(SOURCE) else (),
        options=options,
        serve=serve,
        role_arn=own.get(ROLE_ARN, ""),
        tenant=_tenant(context.get(NAMESPACE_KEY, "")),
    )
    return _checked(found, policy)


def _tenant(namespace: str) -> str:
    """A namespace's name (RFC 1123 label), which becomes part of a path."""
    if namespace and not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise _invalid(f"{NAMESPACE_KEY}: {namespace!r} is no name of a namespace")
    return namespace


def _flag_words(flags: Iterable[str]) -> list[tuple[str, str]]:
    words = []
    for flag in flags:
        for word in flag.split(","):
            key, equals, value = word.strip().partition("=")
            if key == "rw":
                raise _invalid("mount option rw: a mount never writes to a bucket")
            if key and key not in IGNORED_FLAGS:
                words.append((key, value if equals else "true"))
    return words


def _option_name(key: str, serve: Serve) -> str:
    name = key.replace("-", "_")
    if name in (REFUSED if serve is Serve.NODE else REFUSED_TO_SIDECARS):
        raise _invalid(f"volume attribute {key!r} may not be set: {REFUSED[name]}")
    if name in ALL_OPTIONS:
        return name
    known = [*OWN_ATTRIBUTES, *(option.replace("_", "-") for option in ALL_OPTIONS)]
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see docs/kubernetes.md for those there are"
    raise _invalid(f"unknown volume attribute {key!r}; {hint}")


def _check_value(name: str, key: str, value: str) -> None:
    try:
        parsed = parse_value(name, value, f"volume attribute {key}")
    except SettingsError as error:
        raise _invalid(str(error)) from error
    if name in LIMITS and not 0 <= parsed <= LIMITS[name]:
        raise _invalid(f"volume attribute {key}: {value} is not between 0 and {LIMITS[name]}")


def _serve(text: str) -> Serve:
    try:
        return Serve(text)
    except ValueError:
        raise _invalid(f"volume attribute {SERVE}: {text!r} is neither 'node' nor 'sidecar'") from None


def _checked(found: Wanted, policy: Policy) -> Wanted:
    if not found.sources and not {"manifest", "objects", "index"} & found.options.keys():
        raise _invalid(f"no source: set the volume attribute {SOURCE!r}, 'manifest', 'objects' or 'index'")
    local = _paths(found)
    if found.serve is not Serve.NODE:
        return found
    if local and not policy.local_files:
        raise _invalid(
            f"{local[0]!r} is a file of the node, and this driver reads none (csi --local-files allows it)"
        )
    if "index" in found.options:
        _check_unwritten(found.options)
        found.options["index"] = str(_index_file(found.options["index"], policy))
    return found


def _paths(found: Wanted) -> list[str]:
    """Every local file that the volume would have read. Raises Refusal for a place that is none."""
    options = found.options
    places = [*found.sources, *(options[name] for name in PLACES if name in options)]
    kind, _, table = options.get("label_from", "").partition(":")
    if kind == "table":
        places.append(table.partition("#")[0])
    view = options.get("view", "")
    return [*filter(_is_local, places), *([view] if is_view_file(view) else [])]


def _check_unwritten(options: Mapping[str, str]) -> None:
    """Refuses what would replace an index that belongs to the operator and that other volumes share."""
    if parse_bool(options.get("rebuild", "false")) or "refresh" in options:
        raise _invalid(
            "volume attributes rebuild and refresh: an index of the node is only read; leave them out,"
            " or name a source instead of the index"
        )


def _is_local(place: str) -> bool:
    """Whether ``place`` is a local file; standard input, which is none, belongs to nobody here."""
    if place == "-":
        raise _invalid("a volume cannot read standard input")
    try:
        return parse_uri(place)[0] == FILE_ROOT
    except SettingsError as error:
        if "://" in place:
            raise _invalid(str(error)) from error
        return True


def _index_file(name: str, policy: Policy) -> Path:
    """The file of ``index``, which stands below the operator's directory of indexes."""
    if policy.index_dir is None:
        raise _invalid("volume attribute index: this driver has no directory of indexes (csi --index-dir)")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _invalid(f"volume attribute index: {name!r} must be a file name within the index directory")
    file = policy.index_dir.resolve() / path
    try:
        inside, is_file = file.resolve().is_relative_to(policy.index_dir.resolve()), file.is_file()
    except OSError as error:  # a name that is too long
        raise _invalid(f"volume attribute index: {name!r:.200}: {error.strerror}") from error
    if not inside:
        raise _invalid(f"volume attribute index: {name!r} leads out of the index directory")
    if not is_file:
        raise Refusal(Code.NOT_FOUND, f"volume attribute index: there is no {name!r} on this node")
    return file


def _invalid(message: str) -> Refusal:
    return Refusal(Code.INVALID_ARGUMENT, message)
