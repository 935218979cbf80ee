"""The Identity and Node services against the specification, over its socket and with real mounts.

Each test says which sentence of CSI 1.12 it stands for, where that is not plain from its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ossmount.config import ALL_OPTIONS
from ossmount.k8s import schema
from ossmount.k8s.attributes import REFUSED
from tests.support.csi import Client, Failed, Plugin, capability, needs_root
from tests.support.mounting import children_of, is_mounted, wait_for

pytestmark = [needs_root, pytest.mark.fuse]

Context = dict[str, str]


@contextlib.contextmanager
def published(driver: Plugin, volume: str, context: Context, **fields: Any) -> Iterator[Path]:
    target = driver.target(volume)
    driver.client.publish(volume, target, context, **fields)
    try:
        yield target
    finally:
        driver.client.unpublish(volume, target)


def called_until_done(call: Any, *arguments: Any) -> None:
    """As kubelet does: again where the driver itself is just at work on the target (ABORTED)."""

    def is_done() -> bool:
        try:
            call(*arguments)
        except Failed as failed:
            if failed.code != "ABORTED":
                raise
            return False
        return True

    wait_for(is_done, 10)


def refused(code: str, call: Any, *arguments: Any, **fields: Any) -> str:
    """The message of a call that must be refused with that code."""
    with pytest.raises(Failed) as failed:
        call(*arguments, **fields)
    assert failed.value.code == code, failed.value
    return failed.value.details


def supervisor_of(driver: Plugin) -> int:
    """The only supervisor that runs: the process that has children."""
    [pid] = [pid for pid in driver.processes() if children_of(pid)]
    return pid


# -- Identity, and what the node says of itself ---------------------------------------------------------


def test_plugin_info(driver: Plugin) -> None:
    info = driver.client.call("Identity/GetPluginInfo")
    assert info.name == "ossmount.csi.dev"
    assert info.vendor_version


def test_no_controller_is_offered(driver: Plugin) -> None:
    assert list(driver.client.call("Identity/GetPluginCapabilities").capabilities) == []


def test_probe_says_ready(driver: Plugin) -> None:
    answer = driver.client.call("Identity/Probe")
    assert answer.HasField("ready")
    assert answer.ready.value is True


def test_node_info(driver: Plugin) -> None:
    info = driver.client.call("Node/NodeGetInfo")
    assert (info.node_id, info.max_volumes_per_node) == ("node-1", 0)
    assert not info.HasField("accessible_topology")


def test_node_capabilities(driver: Plugin) -> None:
    answer = driver.client.call("Node/NodeGetCapabilities")
    names = [schema.value_name("NodeServiceCapability.RPC.Type", c.rpc.type) for c in answer.capabilities]
    assert names == ["GET_VOLUME_STATS", "VOLUME_CONDITION", "SINGLE_NODE_MULTI_WRITER"]


@pytest.mark.parametrize(
    "method",
    [
        "csi.v1.Node/NodeStageVolume",
        "csi.v1.Node/NodeUnstageVolume",
        "csi.v1.Node/NodeExpandVolume",
        "csi.v1.Controller/CreateVolume",
        "csi.v0.Node/NodeGetInfo",
    ],
)
def test_what_is_not_offered_is_unimplemented(driver: Plugin, method: str) -> None:
    assert refused("UNIMPLEMENTED", driver.client.raw, method)


def test_wire_format_by_hand(driver: Plugin) -> None:
    """Field numbers without the help of our own descriptors: name 1, vendor_version 2, node_id 1, ready 1."""
    info = driver.client.raw("csi.v1.Identity/GetPluginInfo")
    assert info.startswith(b"\x0a\x10ossmount.csi.dev\x12")
    assert driver.client.raw("csi.v1.Node/NodeGetInfo") == b"\x0a\x06node-1"
    assert driver.client.raw("csi.v1.Identity/Probe") == b"\x0a\x02\x08\x01"
    capabilities = driver.client.raw("csi.v1.Node/NodeGetCapabilities")
    assert capabilities == b"\x0a\x04\x0a\x02\x08\x02\x0a\x04\x0a\x02\x08\x04\x0a\x04\x0a\x02\x08\x05"


def test_the_socket_is_roots_alone(driver: Plugin) -> None:
    assert driver.socket.stat().st_mode & 0o777 == 0o600


# -- publish and unpublish ------------------------------------------------------------------------------


def test_life_of_a_volume(clean: Plugin, source: Context) -> None:
    target = clean.target("life")
    assert not target.exists()
    clean.client.publish("life", target, source)
    assert (target / "cat/1.txt").read_text() == "this is cat/1.txt"
    assert sorted(path.name for path in target.iterdir()) == ["cat", "dog"]
    clean.client.unpublish("life", target)
    assert not target.exists()
    assert target.parent.exists(), "kubelet's directory is kubelet's"


def test_other_users_may_read(clean: Plugin, source: Context) -> None:
    with published(clean, "others", source) as target:
        as_nobody = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "cat",
        ]  # in the mount: the way to it is root's
        shown = subprocess.run(
            [*as_nobody, "cat/2.txt"], cwd=target, capture_output=True, timeout=10, check=True
        )
        assert shown.stdout == b"this is cat/2.txt"


@pytest.mark.parametrize(
    ("mode", "readonly"),
    [("SINGLE_NODE_WRITER", False), ("SINGLE_NODE_READER_ONLY", True), ("SINGLE_NODE_SINGLE_WRITER", False)],
)
def test_every_mode_is_mounted_read_only(clean: Plugin, source: Context, mode: str, readonly: bool) -> None:
    """kubelet sends SINGLE_NODE_WRITER and readonly = false for inline volumes."""
    with published(clean, "modes", source, mode=mode, readonly=readonly) as target:
        with pytest.raises(OSError, match="Read-only") as failed:
            (target / "new").write_text("x")
        assert failed.value.errno == errno.EROFS
        line = next(
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {target} " in line
        )
        assert line.split()[5].split(",")[0] == "ro"


@pytest.mark.parametrize("mode", ["MULTI_NODE_SINGLE_WRITER", "MULTI_NODE_MULTI_WRITER"])
def test_modes_with_several_writers_exceed_what_a_volume_can(
    clean: Plugin, source: Context, mode: str
) -> None:
    target = clean.target("writers")
    fields: dict[str, Any] = {"mode": mode, "readonly": False}
    assert "read-only" in refused("FAILED_PRECONDITION", clean.client.publish, "w", target, source, **fields)
    assert not target.exists()
    with published(clean, "writers", source, mode=mode, readonly=True):
        assert (target / "dog").is_dir()


def test_ten_times(clean: Plugin, source: Context) -> None:
    target = clean.target("ten")
    servers = set()
    for _ in range(10):
        clean.client.publish("ten", target, source)
        servers.add(supervisor_of(clean))
    assert len(servers) == 1, "repeating a publish mounts once"
    assert len([path for path in clean.mounts() if path == target]) == 1
    for _ in range(10):
        clean.client.unpublish("ten", target)
        assert not target.exists()


def test_concurrent_publishes_of_one_target(clean: Plugin, source: Context) -> None:
    """ABORTED where an operation is pending (Error Scheme), OK otherwise; one mount comes of it."""
    target = clean.target("race")

    def publish(_: int) -> str:
        client = Client(clean.socket)
        with contextlib.closing(client):
            return outcome(client.publish, "race", target, source)

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(publish, range(10)))
    assert set(outcomes) <= {"OK", "ABORTED"}
    assert outcomes.count("OK") >= 1
    assert outcomes.count("ABORTED") >= 1
    assert clean.mounts() == [target]
    clean.client.unpublish("race", target)


def outcome(call: Any, *arguments: Any) -> str:
    try:
        call(*arguments)
    except Failed as failed:
        return failed.code
    return "OK"


def test_publish_and_unpublish_race(clean: Plugin, source: Context) -> None:
    target = clean.target("mixed")

    def either(number: int) -> str:
        with contextlib.closing(Client(clean.socket)) as client:
            if number % 2:
                return outcome(client.unpublish, "mixed", target)
            return outcome(client.publish, "mixed", target, source)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(either, range(16))) <= {"OK", "ABORTED"}
    clean.client.unpublish("mixed", target)


def test_two_volumes_race_for_one_target(clean: Plugin, source: Context) -> None:
    target = clean.target("contested")

    def publish(volume: str) -> str:
        with contextlib.closing(Client(clean.socket)) as client:
            return outcome(client.publish, volume, target, source)

    with ThreadPoolExecutor(2) as pool:
        outcomes = dict(zip(("one", "two"), pool.map(publish, ("one", "two")), strict=True))
    [winner] = [volume for volume, code in outcomes.items() if code == "OK"]
    loser = ({"one", "two"} - {winner}).pop()
    assert outcomes[loser] in {"ABORTED", "ALREADY_EXISTS"}
    assert "in use" in refused("ALREADY_EXISTS", clean.client.publish, loser, target, source)
    clean.client.unpublish(winner, target)


def test_different_targets_do_not_wait_for_each_other(clean: Plugin, source: Context) -> None:
    targets = {f"side-{n}": clean.target(f"side-{n}") for n in range(3)}

    def publish(volume: str) -> str:
        with contextlib.closing(Client(clean.socket)) as client:
            return outcome(client.publish, volume, targets[volume], source)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(publish, targets)) == ["OK"] * 3
    for volume, target in targets.items():
        clean.client.unpublish(volume, target)


# -- T1 = T2, P1 != P2, and second targets (table of NodePublishVolume) ---------------------------------


def test_same_target_with_other_arguments_already_exists(clean: Plugin, source: Context) -> None:
    with published(clean, "same", source) as target:
        other: list[tuple[Context, dict[str, Any]]] = [
            (source | {"layout": "labels"}, {}),
            (source, {"readonly": False, "mode": "SINGLE_NODE_WRITER"}),
            (source, {"readonly": False}),
            (source, {"mode": "SINGLE_NODE_READER_ONLY"}),
            (source, {"flags": ("workers=2",)}),
            (source, {"publish_context": {"a": "b"}}),
        ]
        for context, fields in other:
            with pytest.raises(Failed) as failed:
                clean.client.publish("same", target, context, **fields)
            # A mode that allows writers is refused for itself when it is not read-only.
            assert failed.value.code == "ALREADY_EXISTS", (context, fields)
        assert (target / "cat").is_dir(), "the mount is still there"


@pytest.mark.parametrize("mode", ["MULTI_NODE_READER_ONLY", "SINGLE_NODE_MULTI_WRITER"])
def test_second_target_is_fine(clean: Plugin, source: Context, mode: str) -> None:
    first, second, third = (clean.target("multi", f"pod-{n}") for n in (1, 2, 3))
    clean.client.publish("multi", first, source, mode=mode)
    clean.client.publish("multi", second, source, mode=mode)
    clean.client.publish("multi", third, source | {"workers": "2"}, mode=mode)
    for target in (first, second, third):
        assert (target / "cat/1.txt").read_text() == "this is cat/1.txt"
    clean.client.unpublish("multi", first)
    assert (second / "cat/1.txt").exists(), "the others stay"
    clean.client.unpublish("multi", second)
    clean.client.unpublish("multi", third)


@pytest.mark.parametrize(
    "mode", ["SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY", "SINGLE_NODE_SINGLE_WRITER"]
)
def test_second_target_of_a_single_volume(clean: Plugin, source: Context, mode: str) -> None:
    with published(clean, "single", source, mode=mode):
        second = clean.target("single", "pod-2")
        for context in (source, source | {"layout": "labels"}):
            refused("FAILED_PRECONDITION", clean.client.publish, "single", second, context, mode=mode)
        assert not second.exists()


def test_second_target_with_another_capability(clean: Plugin, source: Context) -> None:
    with published(clean, "caps", source):
        second = clean.target("caps", "pod-2")
        mode = "SINGLE_NODE_MULTI_WRITER"
        refused("FAILED_PRECONDITION", clean.client.publish, "caps", second, source, mode=mode)


# -- arguments ------------------------------------------------------------------------------------------


def block() -> Any:
    made = schema.message("VolumeCapability")(access_mode={"mode": 3})
    made.block.SetInParent()
    return made


def without_access_type() -> Any:
    return schema.message("VolumeCapability")(access_mode={"mode": 3})


def without_mode() -> Any:
    made = schema.message("VolumeCapability")()
    made.mount.SetInParent()
    return made


def with_group() -> Any:
    made = capability()
    made.mount.volume_mount_group = "1000"
    return made


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"volume_id": ""}, id="no volume id"),
        pytest.param({"volume_id": "v" * 129}, id="volume id too long"),
        pytest.param({"target_path": ""}, id="no target"),
        pytest.param({"target_path": "relative/path"}, id="relative target"),
        pytest.param({"target_path": "/a/../b"}, id="target with dots"),
        pytest.param({"target_path": "/"}, id="root"),
        pytest.param({"target_path": "/" + "x" * 5000}, id="target too long"),
        pytest.param({"volume_capability": None}, id="no capability"),
        pytest.param({"volume_capability": without_access_type()}, id="no access type"),
        pytest.param({"volume_capability": without_mode()}, id="no access mode"),
        pytest.param({"volume_capability": block()}, id="block"),
        pytest.param({"volume_capability": with_group()}, id="mount group"),
        pytest.param({"volume_capability": capability(fs_type="ext4")}, id="another file system"),
        pytest.param({"volume_capability": capability(flags=("rw",))}, id="rw"),
        pytest.param({"volume_capability": capability(flags=("no-such-thing=1",))}, id="unknown flag"),
    ],
)
def test_invalid_calls(clean: Plugin, source: Context, fields: dict[str, Any]) -> None:
    target = clean.target("invalid")
    good = {
        "volume_id": "v",
        "target_path": str(target),
        "volume_capability": capability(),
        "volume_context": source,
    }
    assert refused("INVALID_ARGUMENT", clean.client.call, "Node/NodePublishVolume", **good | fields)
    assert not target.exists()


@pytest.mark.parametrize(
    ("context", "says"),
    [
        pytest.param({"sauce": "x"}, "did you mean 'source'", id="unknown"),
        pytest.param({"layout": "keyz"}, "keyz", id="bad choice"),
        pytest.param({"cache-size": "many"}, "many", id="bad size"),
        pytest.param({"workers": "1000"}, "between", id="too many processes"),
        pytest.param({"serve": "elsewhere"}, "sidecar", id="serve"),
        pytest.param({"source": "gopher://x/"}, "gopher", id="unknown scheme"),
        pytest.param({"source": "", "layout": "keys"}, "no source", id="no source"),
        pytest.param({"source": "", "objects": "-"}, "standard input", id="standard input"),
        pytest.param({"index": "train.ossidx"}, "--index-dir", id="no index directory"),
        pytest.param({"csi.storage.k8s.io/pod.namespace": "../.."}, "namespace", id="namespace"),
        *(
            pytest.param({name.replace("_", "-"): "x"}, "may not be set", id=name)
            for name in sorted(REFUSED.keys() & ALL_OPTIONS.keys())
        ),
    ],
)
def test_invalid_attributes(clean: Plugin, source: Context, context: Context, says: str) -> None:
    target = clean.target("attributes")
    assert says in refused("INVALID_ARGUMENT", clean.client.publish, "v", target, source | context)
    assert not target.exists()


def test_what_kubelet_adds_is_tolerated_and_may_change(clean: Plugin, source: Context) -> None:
    first = {
        "csi.storage.k8s.io/ephemeral": "true",
        "csi.storage.k8s.io/pod.name": "train",
        "csi.storage.k8s.io/pod.namespace": "team-a",
        "csi.storage.k8s.io/pod.uid": "1",
        "csi.storage.k8s.io/serviceAccount.name": "default",
        "csi.storage.k8s.io/serviceAccount.tokens": '{"aud":{"token":"first-token-value"}}',
    }
    with published(clean, "inline", source | first, mode="SINGLE_NODE_WRITER", readonly=False) as target:
        second = first | {
            "csi.storage.k8s.io/serviceAccount.tokens": '{"aud":{"token":"second-token-value"}}'
        }
        clean.client.publish("inline", target, source | second, mode="SINGLE_NODE_WRITER", readonly=False)
        assert (target / "cat").is_dir()
    everything = clean.log + "".join(p.read_text() for p in clean.state.rglob("*") if p.is_file())
    assert "token-value" not in everything


def test_mount_flags_are_options(clean: Plugin, source: Context) -> None:
    flags = ("ro,noatime", "file-mode=0400", "dir_mode=0511")
    with published(clean, "flags", source, flags=flags) as target:
        assert (target / "cat/1.txt").stat().st_mode & 0o777 == 0o400
        assert (target / "cat").stat().st_mode & 0o777 == 0o511


@pytest.mark.parametrize(
    "fields", [{"volume_id": ""}, {"target_path": ""}, {"target_path": "here"}, {"volume_id": "v" * 200}]
)
def test_invalid_unpublish(driver: Plugin, fields: dict[str, str]) -> None:
    good = {"volume_id": "v", "target_path": str(driver.target("x"))}
    refused("INVALID_ARGUMENT", driver.client.call, "Node/NodeUnpublishVolume", **good | fields)


def test_unpublish_of_what_is_not_there_is_ok(clean: Plugin) -> None:
    clean.client.unpublish("nobody", clean.target("nothing"))
    clean.client.unpublish("nobody", clean.home / "no/such/parent/mount")


def test_unpublish_of_another_volume(clean: Plugin, source: Context) -> None:
    with published(clean, "mine", source) as target:
        refused("NOT_FOUND", clean.client.unpublish, "yours", target)
        assert (target / "cat").is_dir()


def test_unpublish_never_deletes_files(clean: Plugin) -> None:
    target = clean.target("precious")
    target.mkdir()
    (target / "thesis.txt").write_text("years")
    assert "stays" in refused("INTERNAL", clean.client.unpublish, "precious", target)
    assert (target / "thesis.txt").read_text() == "years"
    (target / "thesis.txt").unlink()
    clean.client.unpublish("precious", target)


# -- NodeGetVolumeStats ---------------------------------------------------------------------------------


def test_stats_of_a_volume(clean: Plugin, source: Context) -> None:
    with published(clean, "stats", source) as target:
        answer = clean.client.stats("stats", target)
        units = {schema.value_name("VolumeUsage.Unit", usage.unit): usage for usage in answer.usage}
        assert units["INODES"].total == units["INODES"].used >= 3
        assert units["BYTES"].total == units["BYTES"].used > 0
        assert units["BYTES"].available == units["INODES"].available == 0
        assert answer.volume_condition.abnormal is False
        assert answer.volume_condition.message


@pytest.mark.parametrize("fields", [{"volume_id": ""}, {"volume_path": ""}, {"volume_path": "here"}])
def test_invalid_stats(driver: Plugin, fields: dict[str, str]) -> None:
    good = {"volume_id": "v", "volume_path": str(driver.target("x"))}
    refused("INVALID_ARGUMENT", driver.client.call, "Node/NodeGetVolumeStats", **good | fields)


def test_stats_of_what_is_not_published(clean: Plugin, source: Context) -> None:
    refused("NOT_FOUND", clean.client.stats, "nobody", clean.target("nothing"))
    with published(clean, "here", source) as target:
        refused("NOT_FOUND", clean.client.stats, "there", target)
        refused("NOT_FOUND", clean.client.stats, "here", target.parent)


def test_a_mount_that_hangs_is_abnormal_and_catches_nobody(clean: Plugin, source: Context) -> None:
    with published(clean, "hang", source) as target:
        stopped = clean.processes()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                answer = clean.client.stats("hang", target)
                assert answer.volume_condition.abnormal is True
                assert "no answer" in answer.volume_condition.message
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)


# -- deaths ---------------------------------------------------------------------------------------------


def test_a_dead_mount_is_abnormal_cleaned_and_made_anew(clean: Plugin, source: Context) -> None:
    with published(clean, "dead", source) as target:
        os.kill(supervisor_of(clean), signal.SIGKILL)
        wait_for(lambda: not is_mounted(target), 10, lambda: clean.log)
        answer = clean.client.stats("dead", target)
        assert answer.volume_condition.abnormal is True
        assert "died" in answer.volume_condition.message
        assert len(answer.usage) == 0
        called_until_done(clean.client.publish, "dead", target, source)
        assert (target / "cat/1.txt").read_text() == "this is cat/1.txt"
        assert clean.client.stats("dead", target).volume_condition.abnormal is False


def test_a_dead_mount_is_unpublished(clean: Plugin, source: Context) -> None:
    target = clean.target("corpse")
    clean.client.publish("corpse", target, source)
    os.kill(supervisor_of(clean), signal.SIGKILL)
    called_until_done(clean.client.unpublish, "corpse", target)
    assert not target.exists()


def test_a_busy_mount_is_unpublished(clean: Plugin, source: Context) -> None:
    target = clean.target("busy")
    clean.client.publish("busy", target, source)
    stream = os.open(target / "cat/1.txt", os.O_RDONLY)
    clean.client.unpublish("busy", target)
    assert not target.exists()
    with contextlib.suppress(OSError):  # its connection is gone
        os.close(stream)
