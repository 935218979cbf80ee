"""The driver is killed between any two steps: the next one finds no trace, or a whole volume."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.csi import Failed, Plugin, needs_root, plugin
from tests.support.mounting import is_mounted, wait_for

pytestmark = [needs_root, pytest.mark.fuse]

CONFIRMED = "after:state.State.write#3"
"""The mount is known to serve and has not been let go: it ends, its record stays for the next call."""

PUBLISH_STEPS = [
    "after:volumes.State.write",
    "after:volumes._make_target",
    "after:serving.files.write",
    "after:spawning._spawn",
    "after:spawning._hear",
    CONFIRMED,
]

UNPUBLISH_STEPS = [  # a publish clears the target first, hence the second call
    "before:volumes.Volumes._undo",
    "after:volumes.Volumes._clear#2",
    "after:volumes._remove_target",
    "before:volumes.State.remove",
    "after:volumes.State.remove",
]

SECRETS = {"AccessKeyId": "id", "AccessKeySecret": "a-secret-value"}


def crashing(driver: Plugin, step: str) -> None:
    """The driver starts as one that kills itself at ``step``."""
    driver.prefix = ("-m", "tests.support.csi_crash", step)
    driver.start()
    driver.prefix = ("-m", "ossmount")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crashes")


@pytest.mark.parametrize("step", PUBLISH_STEPS)
def test_killed_in_a_publish(homes: Path, source: dict[str, str], step: str) -> None:
    with plugin(homes / f"publish-{PUBLISH_STEPS.index(step)}", "--local-files", started=False) as driver:
        crashing(driver, step)
        target = driver.target("data")
        with pytest.raises(Failed) as failed:
            driver.client.publish("v", target, source, secrets=SECRETS)
        assert failed.value.code in {"UNAVAILABLE", "CANCELLED"}
        driver.end_client()
        driver.start()
        if step != CONFIRMED:
            wait_for(lambda: driver.left_behind() == [], 10, lambda: f"{driver.left_behind()}\n{driver.log}")
        driver.client.publish("v", target, source, secrets=SECRETS)
        assert (target / "cat/1.txt").read_text() == "this is cat/1.txt"
        driver.client.unpublish("v", target)
        assert driver.left_behind() == []


@pytest.mark.parametrize("step", UNPUBLISH_STEPS)
def test_killed_in_an_unpublish(homes: Path, source: dict[str, str], step: str) -> None:
    with plugin(homes / f"unpublish-{UNPUBLISH_STEPS.index(step)}", "--local-files", started=False) as driver:
        crashing(driver, step)
        target = driver.target("data")
        driver.client.publish("v", target, source, secrets=SECRETS)
        with pytest.raises(Failed):
            driver.client.unpublish("v", target)
        driver.end_client()
        driver.start()
        driver.client.unpublish("v", target)
        assert driver.left_behind() == []


def test_a_driver_that_starts_anew_finds_its_volumes(homes: Path, source: dict[str, str]) -> None:
    with plugin(homes / "anew", "--local-files") as driver:
        target = driver.target("data")
        driver.client.publish("v", target, source)
        processes = sorted(driver.processes())
        for signum in (signal.SIGTERM, signal.SIGKILL):
            driver.kill(signum)
            assert (target / "cat/1.txt").read_text() == "this is cat/1.txt", "mounts do not need the driver"
            driver.start()
            driver.client.publish("v", target, source)
            assert sorted(driver.processes()) == processes, "found, not mounted anew"
            assert driver.client.stats("v", target).volume_condition.message == "serving"
        driver.client.unpublish("v", target)
        assert driver.left_behind() == []


def test_mounts_that_died_with_the_driver(homes: Path, source: dict[str, str]) -> None:
    """So it is in a container: everything in it ends together, the mounts of the node stay, dead."""
    with plugin(homes / "container", "--local-files") as driver:
        target = driver.target("data")
        driver.client.publish("v", target, source)
        processes = driver.processes()
        driver.kill()
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        assert is_mounted(target)
        driver.start()
        wait_for(lambda: not is_mounted(target), 10, lambda: driver.log)
        assert driver.client.stats("v", target).volume_condition.abnormal
        driver.client.publish("v", target, source)
        assert (target / "cat/1.txt").read_text() == "this is cat/1.txt"
        driver.client.unpublish("v", target)
        assert driver.left_behind() == []
