"""What schemas of Kubernetes cannot say of our manifests: ``problems(documents)`` lists what is wrong.

Touch it when a manifest could be wrong in another way; tests/packaging shows that each rule is seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ossmount.config import ALL_OPTIONS, ENVIRONMENT_PREFIX, from_environment
from ossmount.errors import SettingsError
from ossmount.k8s.attributes import Policy, wanted
from ossmount.k8s.exchange import EMPTY_DIR, SIDECAR_UID
from ossmount.k8s.refusal import Refusal
from ossmount.k8s.server import DRIVER_NAME

Document = Mapping[str, Any]

_OTHER_VARIABLES = {"OSSMOUNT_RUNTIME_DIR", "OSSMOUNT_CONFIG"}


def problems(documents: Iterable[Document], index_dir: Path) -> list[str]:
    """What is wrong with ``documents``; ``index_dir`` holds the index files that volumes may name."""
    policy = Policy(index_dir=index_dir)
    return [
        f"{document['kind']} {document['metadata']['name']}: {what}"
        for document in documents
        for what in [*_of_pod(pod_of(document), policy), *_of_persistent_volume(document, policy)]
    ]


def pod_of(document: Document) -> Document:
    """The Pod's spec within a document; {} where it makes no Pod."""
    if document["kind"] == "Pod":
        return dict(document["spec"])
    return dict(document.get("spec", {}).get("template", {}).get("spec", {}))


def containers_of(pod: Document) -> list[Document]:
    """Init containers and others."""
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def is_ours(container: Document) -> bool:
    """Whether the container runs the project's image."""
    return str(container["image"]).partition(":")[0].endswith("ossmount")


def _of_pod(pod: Document, policy: Policy) -> Iterator[str]:
    shared = {mount["name"] for c in containers_of(pod) for mount in _mounts(c) if _is_both_ways(mount)}
    for container in containers_of(pod):
        name = container["name"]
        for what in (
            *_of_image(container),
            *_of_resources(container),
            *_of_privileges(pod, container),
            *_of_propagation(container, shared),
            *_of_environment(container),
        ):
            yield f"{name}: {what}"
    yield from _of_volumes(pod)
    for volume in pod.get("volumes", ()):
        if "csi" in volume:
            csi = volume["csi"]
            yield from _of_csi(csi, (), policy)
            if csi.get("volumeAttributes", {}).get("serve") == "sidecar":
                yield from _of_sidecar(pod)


def _mounts(container: Document) -> list[Document]:
    return list(container.get("volumeMounts", ()))


def _is_both_ways(mount: Document) -> bool:
    return mount.get("mountPropagation") == "Bidirectional"


def _of_image(container: Document) -> Iterator[str]:
    tag = re.search(r":([\w][\w.-]*)$|@sha256:[0-9a-f]{64}$", container["image"])
    if tag is None or tag[1] == "latest":
        yield f"image {container['image']} has no tag that stays what it is"


def _of_resources(container: Document) -> Iterator[str]:
    resources = container.get("resources", {})
    for kind, amount in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if amount not in resources.get(kind, {}):
            yield f"no {amount} in its {kind}"


def _of_privileges(pod: Document, container: Document) -> Iterator[str]:
    security = container.get("securityContext", {})
    if any(map(_is_both_ways, _mounts(container))) and not security.get("privileged"):
        yield "Bidirectional propagation needs privileged: true"
    if not is_ours(container):
        return
    if not security.get("readOnlyRootFilesystem"):
        yield "its root file system can be written"
    if security.get("privileged"):
        if security.get("runAsUser") != 0:
            yield "the image's user is no root, so a privileged container must say runAsUser: 0"
        return
    profile = security.get("seccompProfile", pod.get("securityContext", {}).get("seccompProfile", {}))
    expected = {
        "runAsNonRoot": security.get("runAsNonRoot") is True,
        "runAsUser: 65534": security.get("runAsUser") == SIDECAR_UID,
        "allowPrivilegeEscalation: false": security.get("allowPrivilegeEscalation") is False,
        "no capabilities": security.get("capabilities", {}).get("drop") == ["ALL"],
        "seccompProfile RuntimeDefault": profile.get("type") == "RuntimeDefault",
    }
    yield from (f"without privileges it needs {what}" for what, given in expected.items() if not given)


def _of_propagation(container: Document, shared: set[str]) -> Iterator[str]:
    for mount in _mounts(container):
        if mount["name"] in shared and "mountPropagation" not in mount:
            yield f"it sees no mount that is made later in {mount['name']}: HostToContainer is missing"


def _of_environment(container: Document) -> Iterator[str]:
    values = {v["name"]: str(v["value"]) for v in container.get("env", ()) if "value" in v}
    for name in values:
        option = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name.startswith(ENVIRONMENT_PREFIX) and option not in ALL_OPTIONS and name not in _OTHER_VARIABLES:
            yield f"{name} is no option"
    try:
        from_environment(values)
    except SettingsError as error:
        yield str(error)


def _of_volumes(pod: Document) -> Iterator[str]:
    defined = {volume["name"] for volume in pod.get("volumes", ())}
    used = {mount["name"] for container in containers_of(pod) for mount in _mounts(container)}
    yield from (f"volume {name} is mounted, but not defined" for name in sorted(used - defined))
    yield from (f"volume {name} is defined, but not mounted" for name in sorted(defined - used))


def _of_csi(csi: Document, flags: Iterable[str], policy: Policy) -> Iterator[str]:
    if csi["driver"] != DRIVER_NAME:
        yield f"driver {csi['driver']}"
    if not csi.get("readOnly"):
        yield "a volume of this driver is readOnly: true"
    try:
        wanted(csi.get("volumeAttributes", {}), flags, policy)
    except Refusal as refusal:
        yield refusal.message


def _of_persistent_volume(document: Document, policy: Policy) -> Iterator[str]:
    spec = document.get("spec", {})
    if document["kind"] != "PersistentVolume":
        return
    yield from _of_csi(spec["csi"], spec.get("mountOptions", ()), policy)
    if spec.get("accessModes") != ["ReadOnlyMany"]:
        yield "its access mode is not ReadOnlyMany"


def _of_sidecar(pod: Document) -> Iterator[str]:
    exchange = [volume for volume in pod["volumes"] if volume["name"] == EMPTY_DIR and "emptyDir" in volume]
    if not exchange:
        yield f"serve: sidecar needs an emptyDir named {EMPTY_DIR}"
    sidecars = [c for c in pod.get("initContainers", ()) if is_ours(c) and c.get("restartPolicy") == "Always"]
    if len(sidecars) != 1:
        yield "serve: sidecar needs one init container that keeps running"
        return
    if f"/{EMPTY_DIR}" not in {mount["mountPath"] for mount in _mounts(sidecars[0])}:
        yield f"the sidecar does not mount /{EMPTY_DIR}"
    if "startupProbe" not in sidecars[0]:
        yield "without a startup probe the program starts before the mount serves"
