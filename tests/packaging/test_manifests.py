"""The chart, the kustomize base and the examples: valid for Kubernetes, and right where schemas are silent.

Touch it when there is another manifest, or another way to be wrong.
"""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ossmount.cli.command import parse
from ossmount.cli.entry import choose
from ossmount.config import ALL_OPTIONS
from ossmount.k8s.credentials import AWS_NAMES, OSS_NAMES
from ossmount.k8s.server import DRIVER_NAME, socket_path
from tests.support.manifests import containers_of, is_ours, pod_of, problems
from tests.support.programs import ROOT, output_of, program, run

yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install '.[check]'")

CHART = ROOT / "packaging/helm/ossmount"
KUSTOMIZE = ROOT / "packaging/kustomize"
EXAMPLES = sorted((ROOT / "packaging/examples").glob("*.yaml"))
YAMLLINT = ROOT / "packaging/yamllint.yaml"

Document = dict[str, Any]

EVERYTHING = {
    "rbac": {"openshift": True},
    "tokenRequests": [{"audience": "sts.amazonaws.com", "expirationSeconds": 3600}],
    "options": {"cache-size": "1T", "workers": 4, "push": False, "max-bytes": 1073741824}
    | {"max-request-rate": 0.5, "file-mode": "0440"},
    "indexes": {"volume": {"persistentVolumeClaim": {"claimName": "indexes", "readOnly": True}}},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}},
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"a": "b"},
    "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "nodeSelector": {"gpu": "true"},
    "affinity": {"nodeAffinity": {}},
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
    "kubeletDir": "/data/kubelet",
    "driverName": "other.csi.example.com",
}


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    """What volumes of the examples name."""
    (tmp_path / "imagenet.ossidx").touch()
    return tmp_path


def rendered(values: Mapping[str, Any], tmp_path: Path) -> str:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    return output_of(
        program("helm"), "template", "train", str(CHART), "--namespace", "x", "--values", str(file)
    )


def documents(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


def daemon_set(text: str) -> Document:
    return next(document for document in documents(text) if document["kind"] == "DaemonSet")


def examples() -> list[Document]:
    return [document for path in EXAMPLES for document in documents(path.read_text())]


def test_helm_lint() -> None:
    output_of(program("helm"), "lint", "--strict", str(CHART))


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_rendered_chart_is_valid(values: dict[str, Any], tmp_path: Path, index_dir: Path) -> None:
    text = rendered(values, tmp_path)
    output_of(program("kubernetes-validate"), "--strict", "--quiet", "/dev/stdin", stdin=text)
    output_of(program("yamllint"), "--strict", "--config-file", str(YAMLLINT), "-", stdin=text.strip() + "\n")
    assert problems(documents(text), index_dir) == []


@pytest.mark.parametrize(
    "values",
    [
        {"options": {"cache-siz": "1T"}},
        {"options": {"manifest-parser": "os:system"}},
        {"options": {"file-mode": 288}},
        {"options": {"dir-mode": "r-x"}},
        {"driverName": "Not a name"},
        {"image": {"repository": "x", "tag": "latest"}},
        {"registrar": {"image": "registry.example.com/registrar"}},
        {"registrar": {"image": "registry.example.com/registrar:latest"}},
        {"kubeletDir": "/var/lib/kubelet/"},
        {"tokenRequests": [{"audience": "x", "expirationSeconds": 60}]},
        {"misspelt": 1},
    ],
    ids=lambda values: json.dumps(values),
)
def test_wrong_values_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    done = run(program("helm"), "template", "train", str(CHART), "--values", str(file))
    assert done.returncode != 0
    assert "schema" in done.stderr


def test_options_of_the_schema_are_those_there_are() -> None:
    script = runpy.run_path(str(ROOT / "packaging/helm/options_schema.py"))
    schema = (CHART / "values.schema.json").read_text()
    assert schema == script["with_options"](schema), "run 'make docs'"
    assert script["OWN_VALUES"] | script["PER_VOLUME"] <= ALL_OPTIONS.keys()


def test_options_become_variables(tmp_path: Path) -> None:
    (driver,) = [c for c in containers_of(pod_of(daemon_set(rendered(EVERYTHING, tmp_path)))) if is_ours(c)]
    values = {entry["name"]: entry.get("value") for entry in driver["env"]}
    assert values["OSSMOUNT_CACHE_SIZE"] == "1T"
    assert values["OSSMOUNT_MAX_BYTES"] == "1073741824"
    assert values["OSSMOUNT_PUSH"] == "false"
    assert (values["OSSMOUNT_MAX_REQUEST_RATE"], values["OSSMOUNT_FILE_MODE"]) == ("0.5", "0440")


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_parts_of_the_node_plugin_meet(values: dict[str, Any], tmp_path: Path) -> None:
    """Paths and names that several containers must agree on."""
    text = rendered(values, tmp_path)
    name = values.get("driverName", DRIVER_NAME)
    kubelet = values.get("kubeletDir", "/var/lib/kubelet")
    pod = pod_of(daemon_set(text))
    by_name = {container["name"]: container for container in pod["containers"]}
    paths = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}
    mounts = {m["name"]: m for m in by_name["driver"]["volumeMounts"]}

    command, rest = choose(by_name["driver"]["args"])
    arguments = parse(command, rest)
    assert socket_path(arguments.endpoint).parent == Path(mounts["plugin"]["mountPath"])
    assert arguments.driver_name == name
    assert {d["metadata"]["name"] for d in documents(text) if d["kind"] == "CSIDriver"} == {name}
    assert paths["plugin"] == f"{kubelet}/plugins/{name}"
    # Targets that kubelet names must be the same paths in here.
    assert paths["kubelet"] == mounts["kubelet"]["mountPath"] == kubelet
    assert mounts["kubelet"]["mountPropagation"] == "Bidirectional"

    registrar = by_name["node-driver-registrar"]
    assert f"--kubelet-registration-path={paths['plugin']}/csi.sock" in registrar["args"]
    assert {m["mountPath"] for m in registrar["volumeMounts"] if m["name"] == "registration"} == {
        "/registration"
    }
    assert paths["registration"] == f"{kubelet}/plugins_registry"
    port = by_name["driver"]["ports"][0]["containerPort"]
    assert f"--health-port={port}" in by_name["liveness-probe"]["args"]
    assert by_name["driver"]["livenessProbe"]["httpGet"]["port"] == by_name["driver"]["ports"][0]["name"]
    for companion in (registrar, by_name["liveness-probe"]):
        assert f"--csi-address={socket_path(arguments.endpoint)}" in companion["args"]
        assert companion["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not companion["securityContext"].get("privileged")


def test_the_driver_object(tmp_path: Path) -> None:
    (driver,) = [d for d in documents(rendered({}, tmp_path)) if d["kind"] == "CSIDriver"]
    assert driver["spec"] == {
        "attachRequired": False,
        "podInfoOnMount": True,
        "requiresRepublish": True,
        "fsGroupPolicy": "None",
        "storageCapacity": False,
        "seLinuxMount": False,
        "volumeLifecycleModes": ["Ephemeral", "Persistent"],
    }


def test_the_plugin_gets_no_rights_in_the_cluster(tmp_path: Path) -> None:
    found = documents(rendered({}, tmp_path))
    assert {d["kind"] for d in found} == {"ServiceAccount", "DaemonSet", "CSIDriver"}
    account = next(d for d in found if d["kind"] == "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert pod_of(daemon_set(rendered({}, tmp_path)))["automountServiceAccountToken"] is False


def test_kustomize_base_is_the_chart() -> None:
    script = runpy.run_path(str(KUSTOMIZE / "from_chart.py"))
    manifests = script["manifests"](program("helm"))
    stale = [name for name, text in manifests.items() if (KUSTOMIZE / name).read_text() != text]
    assert stale == [], "run '.venv/bin/python packaging/kustomize/from_chart.py'"
    listed = yaml.safe_load((KUSTOMIZE / "kustomization.yaml").read_text())["resources"]
    assert {*listed} == {*manifests, "namespace.yaml"}


def test_kustomize_builds(index_dir: Path) -> None:
    built = output_of(program("kubectl"), "kustomize", str(KUSTOMIZE))
    output_of(program("kubernetes-validate"), "--strict", "--quiet", "/dev/stdin", stdin=built)
    assert {d["kind"] for d in documents(built)} == {"Namespace", "ServiceAccount", "CSIDriver", "DaemonSet"}
    assert problems(documents(built), index_dir) == []


def test_examples_are_valid(index_dir: Path) -> None:
    output_of(program("kubernetes-validate"), "--strict", "--quiet", *map(str, EXAMPLES))
    assert problems(examples(), index_dir) == []


def test_yaml_is_tidy() -> None:
    files = [*EXAMPLES, *KUSTOMIZE.glob("*.yaml"), CHART / "values.yaml", CHART / "Chart.yaml", YAMLLINT]
    output_of(program("yamllint"), "--strict", "--config-file", str(YAMLLINT), *map(str, files))


def test_commands_of_the_examples_parse() -> None:
    seen = set()
    for container in (c for d in examples() for c in containers_of(pod_of(d)) if is_ours(c)):
        for words in command_lines(container):
            command, rest = choose(words)
            parse(command, rest)
            seen.add(command.name)
    assert seen >= {"sidecar", "index build", "mount", "umount"}


def command_lines(container: Document) -> list[list[str]]:
    """The words behind every ``ossmount`` that the container runs."""
    lines = [["ossmount", *container["args"]]] if "args" in container else []
    hooks = [container.get("startupProbe", {}), *container.get("lifecycle", {}).values()]
    lines += [hook["exec"]["command"] for hook in hooks if "exec" in hook]
    for script in [container["command"][2]] if "command" in container else []:
        lines.append(script.partition(" exec ")[2].split())
    return [line[1:] for line in lines if line[0] == "ossmount"]


def test_keys_of_secrets_are_known() -> None:
    secrets = [document for document in examples() if document["kind"] == "Secret"]
    assert secrets
    assert {key for secret in secrets for key in secret["stringData"]} <= AWS_NAMES.keys() | OSS_NAMES.keys()


# -- the rules themselves -------------------------------------------------------------------------------


def found_by_name(name: str) -> Document:
    return copy.deepcopy(next(d for d in examples() if d["metadata"]["name"] == name))


def _set(path: str, value: Any) -> Callable[[Any], None]:
    """Sets (None: removes) what stands at a path such as ``spec.containers.0.image``."""

    def change(document: Any) -> None:
        *before, last = [int(word) if word.isdecimal() else word for word in path.split(".")]
        for word in before:
            document = document[word]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return change


IN_JOB = "spec.template.spec"


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        (
            "train-privileged-sidecar",
            ("spec.initContainers.0.securityContext.privileged", False),
            "needs priv",
        ),
        (
            "train-privileged-sidecar",
            ("spec.initContainers.0.securityContext.runAsUser", None),
            "runAsUser: 0",
        ),
        (
            "train-privileged-sidecar",
            ("spec.containers.0.volumeMounts.0.mountPropagation", None),
            "HostToContainer is missing",
        ),
        ("train-inline", ("spec.containers.0.image", "trainer:latest"), "no tag"),
        ("train-inline", ("spec.containers.0.image", "registry:5000/trainer"), "no tag"),
        ("train-inline", ("spec.containers.0.resources.limits", None), "no memory in its limits"),
        ("train-inline", ("spec.volumes.0.csi.readOnly", None), "readOnly: true"),
        ("train-inline", ("spec.volumes.0.csi.volumeAttributes.sourc", "x"), "did you mean 'source'"),
        ("train-inline", ("spec.volumes.0.csi.volumeAttributes.workers", "many"), "workers"),
        ("train-inline", ("spec.volumes.0.csi.volumeAttributes.manifest-parser", "os:x"), "may not be set"),
        ("train-inline", ("spec.volumes.0.name", "other"), "is mounted, but not defined"),
        ("imagenet", ("spec.mountOptions.0", "rw"), "never writes"),
        ("imagenet", ("spec.accessModes", ["ReadWriteMany"]), "ReadOnlyMany"),
        ("train", (f"{IN_JOB}.initContainers.0.securityContext.runAsUser", 0), "65534"),
        ("train", (f"{IN_JOB}.initContainers.0.securityContext.readOnlyRootFilesystem", None), "written"),
        ("train", (f"{IN_JOB}.initContainers.0.securityContext.capabilities", {}), "no capabilities"),
        ("train", (f"{IN_JOB}.initContainers.0.securityContext.seccompProfile", None), "seccomp"),
        ("train", (f"{IN_JOB}.initContainers.0.startupProbe", None), "startup probe"),
        ("train", (f"{IN_JOB}.initContainers.0.restartPolicy", None), "keeps running"),
        ("train", (f"{IN_JOB}.initContainers.0.env.0.name", "OSSMOUNT_CACHEDIR"), "is no option"),
        ("train", (f"{IN_JOB}.volumes.1.name", "exchange"), "emptyDir named ossmount-tmp"),
        ("train", (f"{IN_JOB}.initContainers.0.volumeMounts.0.mountPath", "/elsewhere"), "does not mount"),
    ],
)
def test_the_rules_see_what_is_wrong(
    name: str, change: tuple[str, Any], complaint: str, index_dir: Path
) -> None:
    document = found_by_name(name)
    _set(*change)(document)
    assert complaint in "\n".join(problems([document], index_dir))
