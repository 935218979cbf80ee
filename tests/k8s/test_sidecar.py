"""The sidecar path end to end: driver as root, sidecar as nobody in namespaces of its own, real mounts."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ossmount.fuse.mountpoint import mounted_at
from ossmount.k8s.exchange import PATH_MAX
from tests.support import images
from tests.support.csi import Failed, Plugin, needs_root, plugin
from tests.support.mounting import is_mounted, is_running, wait_for
from tests.support.sidecar import RunningSidecar, container, sidecar
from tests.support.trainer import Trainer

pytestmark = [needs_root, pytest.mark.fuse]

VOLUME = "data"

LOOK = """
import os, sys, time
began = time.monotonic()
try:
    print(len(os.listdir(sys.argv[1])), time.monotonic() - began)
except OSError as error:
    print(-error.errno, time.monotonic() - began)
"""


def look(path: Path) -> tuple[int, float]:
    """Number of names in ``path``, or the negative errno, and how many seconds it took; never hangs here."""
    shown = subprocess.run(
        [sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, timeout=15, check=True
    )
    count, seconds = shown.stdout.split()
    return int(count), float(seconds)


@pytest.fixture(scope="module")
def open_home() -> Iterator[Path]:
    """A home that nobody may enter, too: the source lies below it. pytest closes its own at any moment."""
    with tempfile.TemporaryDirectory(prefix="ossmount-sidecar-") as home:
        Path(home).chmod(0o755)
        yield Path(home)


@pytest.fixture(scope="module")
def driver(open_home: Path) -> Iterator[Plugin]:
    with plugin(open_home / "home", "--local-files") as made:
        yield made


@pytest.fixture(scope="module")
def source(open_home: Path) -> dict[str, str]:
    directory = images.write_to(open_home / "images")
    return {"source": f"file://{directory}/", "serve": "sidecar"}


@pytest.fixture
def pod(driver: Plugin, request: pytest.FixtureRequest) -> Iterator[str]:
    """A Pod of this test alone, with an emptyDir; nothing of it stays."""
    name = f"{request.node.name[:40]}-3f6b2c1e-0000-4000-8000-{abs(hash(request.node.nodeid)) % 10**12:012}"
    driver.empty_dir(name)
    yield name
    assert driver.sweep() == []
    assert not any((driver.empty_dir(name) / ".volumes").glob("*"))


def test_an_epoch_and_every_death(
    driver: Plugin, source: dict[str, str], pod: str, trainer: Trainer, tmp_path: Path
) -> None:
    target, empty_dir = driver.target(VOLUME, pod), driver.empty_dir(pod)
    driver.client.publish("v", target, source)
    assert driver.client.stats("v", target).volume_condition.message == "waiting for the sidecar"
    with sidecar(empty_dir, tmp_path / "log") as running:
        running.wait_until_serving(VOLUME)
        check_container(running)
        assert running.check().returncode == 0
        assert not (empty_dir / ".volumes" / VOLUME / "socket").exists()
        check_read_ahead(running, target)
        assert trainer.epoch(target, workers=2) == images.expected()
        kill_a_worker_in_an_epoch(running, trainer, target)
        kill_the_supervisor(driver, running, target)
        driver.client.publish("v", target, source)  # as kubelet does every minute or so
        running.wait_until_serving(VOLUME)
        assert look(target)[0] == len(images.CLASSES)
        assert running.terminate() == 0
    assert look(target)[0] == -errno.ENOTCONN
    driver.client.unpublish("v", target)


def check_read_ahead(running: RunningSidecar, target: Path) -> None:
    """As the driver has set it: the sidecar's first answer to the kernel does not undo that."""
    mounted = mounted_at(target)
    assert mounted is not None
    assert Path(f"/sys/class/bdi/0:{mounted.connection}/read_ahead_kb").read_text() == "1024\n"
    assert "read-ahead" not in running.log


def check_container(running: RunningSidecar) -> None:
    [supervisor] = running.supervisors()
    for pid in (running.main(), supervisor, *running.workers(supervisor)):
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == ["65534"] * 4
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", "1"), "filtered; see test_seccomp"
        for kind in ("mnt", "pid", "net"):
            assert Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
    assert fuse_descriptors(running.main()) == 0, "who keeps the descriptor makes programs hang at a death"


def fuse_descriptors(pid: int) -> int:
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(str(link) == "/dev/fuse" for link in links)


def kill_a_worker_in_an_epoch(running: RunningSidecar, trainer: Trainer, target: Path) -> None:
    [supervisor] = running.supervisors()
    before = running.workers(supervisor)
    trainer.start(target, epochs=3, workers=2)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: set(running.workers(supervisor)) - set(before) != set(), 10, lambda: running.log)
    assert trainer.finish() == [images.expected()] * 3
    assert running.is_serving(VOLUME)


def kill_the_supervisor(driver: Plugin, running: RunningSidecar, target: Path) -> None:
    [supervisor] = running.supervisors()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not is_running(supervisor))
    count, seconds = look(target)
    assert count == -errno.ENOTCONN
    assert seconds < 1
    wait_for(lambda: running.file(VOLUME, "error.json") is not None, 10, lambda: running.log)
    error = running.file(VOLUME, "error.json")
    assert error["version"] == 1
    assert "has ended" in error["message"]
    assert not [path.name for path in (driver.empty_dir()).rglob("*.new")], "written atomically"
    assert running.check().returncode == 1
    condition = driver.client.stats("v", target).volume_condition
    assert condition.abnormal
    assert "has ended" in condition.message


def test_a_failing_mount_says_why(driver: Plugin, pod: str, tmp_path: Path) -> None:
    target = driver.target(VOLUME, pod)
    context = {"source": "file:///no/such/directory/", "serve": "sidecar"}
    driver.client.publish("bad", target, context)
    with sidecar(driver.empty_dir(pod), tmp_path / "log") as running:
        wait_for(lambda: running.file(VOLUME, "error.json") is not None, 20, lambda: running.log)
        assert "/no/such/directory" in running.file(VOLUME, "error.json")["message"]
        checked = running.check()
        assert (checked.returncode, checked.stderr.count("\n")) == (1, 1)
        assert "/no/such/directory" in driver.client.stats("bad", target).volume_condition.message
        assert look(target)[0] == -errno.ENOTCONN
    driver.client.unpublish("bad", target)


def test_the_path_of_the_pod_may_be_longer_than_that_of_a_socket(
    driver: Plugin, source: dict[str, str], pod: str, tmp_path: Path
) -> None:
    """kubelet's paths are; both sides name the socket by a descriptor of its directory."""
    target, empty_dir = driver.target(VOLUME, pod), driver.empty_dir(pod)
    driver.client.publish("v", target, source)
    assert len(str(empty_dir / ".volumes" / VOLUME / "socket")) > PATH_MAX
    with sidecar(empty_dir, tmp_path / "log") as running:
        running.wait_until_serving(VOLUME)
        driver.client.unpublish("v", target)


def test_two_volumes_in_one_pod(driver: Plugin, source: dict[str, str], pod: str, tmp_path: Path) -> None:
    targets = {name: driver.target(name, pod) for name in ("train", "val")}
    for name, target in targets.items():
        driver.client.publish(name, target, source)
    with sidecar(driver.empty_dir(pod), tmp_path / "log") as running:
        for name, target in targets.items():
            running.wait_until_serving(name)
            assert look(target)[0] == len(images.CLASSES)
        assert running.check().returncode == 0
        assert [fuse_descriptors(pid) for pid in running.supervisors()] == [1, 1], "each has its own alone"
        driver.client.unpublish("train", targets["train"])
        assert look(targets["val"])[0] == len(images.CLASSES)
        driver.client.unpublish("val", targets["val"])


def test_a_driver_that_starts_anew_offers_again(
    open_home: Path, source: dict[str, str], tmp_path: Path
) -> None:
    with plugin(open_home / "restarted", "--local-files") as driver:
        target, empty_dir = driver.target(VOLUME), driver.empty_dir()
        driver.client.publish("v", target, source)
        driver.kill()
        driver.start()
        with sidecar(empty_dir, tmp_path / "log") as running:
            running.wait_until_serving(VOLUME)
            assert look(target)[0] == len(images.CLASSES)
            driver.kill()
            assert look(target)[0] == len(images.CLASSES), "the sidecar does not need the driver"
            driver.start()
            driver.client.publish("v", target, source)
            assert driver.client.stats("v", target).volume_condition.message == "serving"
            driver.client.unpublish("v", target)
        assert driver.left_behind() == []


def test_a_sidecar_that_starts_anew_gets_a_new_mount(
    driver: Plugin, source: dict[str, str], pod: str, tmp_path: Path
) -> None:
    target, empty_dir = driver.target(VOLUME, pod), driver.empty_dir(pod)
    driver.client.publish("v", target, source)
    with sidecar(empty_dir, tmp_path / "log") as running:
        running.wait_until_serving(VOLUME)
    with sidecar(empty_dir, tmp_path / "log") as running:
        wait_for(lambda: running.file(VOLUME, "error.json") is not None, 10, lambda: running.log)
        driver.client.publish("v", target, source)
        running.wait_until_serving(VOLUME)
        assert look(target)[0] == len(images.CLASSES)
        driver.client.unpublish("v", target)


def test_fifty_cycles_leave_nothing(driver: Plugin, source: dict[str, str], pod: str, tmp_path: Path) -> None:
    """Every mount is served, and others in between are gone before or while the sidecar fetches them."""
    target, empty_dir = driver.target(VOLUME, pod), driver.empty_dir(pod)
    assert driver.process is not None
    driver.client.publish("v", target, source)
    with sidecar(empty_dir, tmp_path / "log") as running:
        running.wait_until_serving(VOLUME)
        driver.client.unpublish("v", target)
        wait_for(lambda: running.supervisors() == [])

        def held() -> tuple[int, ...]:
            return len(descriptors(driver.process.pid)), len(descriptors(running.main()))

        before = settled(held)
        for cycle in range(50):
            driver.client.publish("v", target, source)
            running.wait_until_serving(VOLUME)
            assert look(target)[0] == len(images.CLASSES)
            driver.client.unpublish("v", target)
            if cycle % 5 == 0:
                driver.client.publish("v", target, source)
                driver.client.unpublish("v", target)
        wait_for(lambda: running.supervisors() == [], 20, lambda: running.log)
        wait_for(
            lambda: all(now <= then for now, then in zip(held(), before, strict=True)),
            explain=lambda: f"{before} descriptors before, {held()} now",
        )
    assert driver.mounts() == []


def descriptors(pid: int) -> list[str]:
    """What a process has open, without the numbers that differ from one to the next."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(link.readlink()).partition(":[")[0])
    return sorted(links)


# -- credentials ----------------------------------------------------------------------------------------


def test_credentials_are_the_sidecars_alone_and_are_renewed(
    driver: Plugin, source: dict[str, str], pod: str
) -> None:
    target = driver.target(VOLUME, pod)
    keys = {"AccessKeyId": "id-1", "AccessKeySecret": "secret-1"}
    driver.client.publish("v", target, source, secrets=keys)
    file = driver.empty_dir(pod) / ".volumes" / VOLUME / "credentials" / "oss.json"
    status = file.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (65534, 0o600)
    assert json.loads(file.read_text()) == keys
    renewed = {"AccessKeyId": "id-2", "AccessKeySecret": "secret-2", "SecurityToken": "token-2"}
    driver.client.publish("v", target, source, secrets=renewed)
    assert json.loads(file.read_text()) == renewed
    assert is_mounted(target)
    driver.client.unpublish("v", target)
    assert not file.exists()
    assert not any(word in driver.log for word in ("secret-1", "secret-2", "token-2"))


# -- who may meet whom ----------------------------------------------------------------------------------


def refusal(call: Any, *arguments: Any) -> tuple[str, str]:
    with pytest.raises(Failed) as failed:
        call(*arguments)
    return failed.value.code, failed.value.details


def test_without_an_empty_dir(driver: Plugin, source: dict[str, str]) -> None:
    target = driver.target(VOLUME, "pod-without")
    code, details = refusal(driver.client.publish, "v", target, source)
    assert code == "FAILED_PRECONDITION"
    assert "emptyDir" in details
    assert not target.exists()
    assert driver.left_behind() == []


def test_target_that_is_not_kubelets(driver: Plugin, source: dict[str, str], tmp_path: Path) -> None:
    assert refusal(driver.client.publish, "v", tmp_path / "mnt", source)[0] == "INVALID_ARGUMENT"
    assert driver.left_behind() == []


def squat_with_link(empty_dir: Path, elsewhere: Path) -> Path:
    (empty_dir / ".volumes").symlink_to(elsewhere)
    return empty_dir / ".volumes"


def squat_with_link_of_the_volume(empty_dir: Path, elsewhere: Path) -> Path:
    (empty_dir / ".volumes").mkdir()
    (empty_dir / ".volumes" / VOLUME).symlink_to(elsewhere)
    return empty_dir / ".volumes" / VOLUME


def squat_with_directory(empty_dir: Path, elsewhere: Path) -> Path:
    (empty_dir / ".volumes").mkdir()
    os.chown(empty_dir / ".volumes", 1000, 1000)
    return empty_dir / ".volumes"


def squat_with_file(empty_dir: Path, elsewhere: Path) -> Path:
    (empty_dir / ".volumes").write_text("mine")
    return empty_dir / ".volumes"


def settled(count: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """What ``count`` gives once it has given the same twenty times: the end of the first cycle is over."""
    seen: list[tuple[int, ...]] = []

    def quiet() -> bool:
        seen.append(count())
        return len(seen) >= 20 and len(set(seen[-20:])) == 1

    wait_for(quiet)
    return seen[-1]


def squat_with_socket(empty_dir: Path, elsewhere: Path) -> Path:
    place = empty_dir / ".volumes" / VOLUME
    place.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(place):
        listening.bind("socket")
    os.chown(place / "socket", 1000, 1000)
    return place / "socket"


@pytest.mark.parametrize(
    "squat",
    [
        squat_with_link,
        squat_with_link_of_the_volume,
        squat_with_directory,
        squat_with_file,
        squat_with_socket,
    ],
)
def test_a_squatted_meeting_place(
    driver: Plugin, source: dict[str, str], squat: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Nothing is written where the link leads, and what is somebody else's stays."""
    pod = f"pod-{squat.__name__}"
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / VOLUME / "credentials").mkdir(parents=True)
    (elsewhere / VOLUME / "credentials" / "precious").write_text("x")
    squatted = squat(driver.empty_dir(pod), elsewhere)
    target = driver.target(VOLUME, pod)
    code, details = refusal(driver.client.publish, "v", target, source)
    assert code == "FAILED_PRECONDITION", details
    assert sorted(path.name for path in elsewhere.rglob("*")) == sorted([VOLUME, "credentials", "precious"])
    assert not target.exists()
    assert driver.mounts() == []
    assert os.path.lexists(squatted) or squat is squat_with_socket, "ours to clear, in our directory"
    assert not any(driver.state.iterdir())


def test_stale_files_are_cleared(driver: Plugin, source: dict[str, str], pod: str) -> None:
    place = driver.empty_dir(pod) / ".volumes" / VOLUME
    (place / "sidecar" / "folder").mkdir(parents=True)
    os.chown(place / "sidecar", 65534, 65534)
    (place / "sidecar" / "status.json").write_text("{}")
    (place / "socket").write_text("of an earlier driver")
    target = driver.target(VOLUME, pod)
    driver.client.publish("v", target, source)
    assert stat.S_ISSOCK((place / "socket").lstat().st_mode)
    assert list((place / "sidecar").iterdir()) == []
    driver.client.unpublish("v", target)


def test_nobody_else_gets_the_descriptor(driver: Plugin, source: dict[str, str], pod: str) -> None:
    """Root of a container that shares the emptyDir is not the sidecar."""
    target = driver.target(VOLUME, pod)
    driver.client.publish("v", target, source)
    place = os.open(driver.empty_dir(pod) / ".volumes" / VOLUME, os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(f"/proc/self/fd/{place}/socket")
            data, passed, _, _ = socket.recv_fds(connection, 4096, 4)
            assert (data, passed) == (b"", [])
    finally:
        os.close(place)
    assert "user 0 is not the sidecar's" in driver.log
    assert driver.client.stats("v", target).volume_condition.message == "waiting for the sidecar"
    driver.client.unpublish("v", target)


def test_the_sidecar_trusts_the_driver_only(driver: Plugin, pod: str, tmp_path: Path) -> None:
    """A directory that the driver did not make is not served from."""
    empty_dir = driver.empty_dir(pod)
    (empty_dir / ".volumes").mkdir()
    os.chown(empty_dir / ".volumes", 65534, 65534)
    command = [sys.executable, "-m", "ossmount", "sidecar", "--directory", "/media/ossmount-tmp"]
    ended = subprocess.run(
        container(empty_dir, *command), capture_output=True, text=True, timeout=30, check=False, cwd="/"
    )
    assert ended.returncode == 2
    assert "belongs to user 65534" in ended.stderr
    (empty_dir / ".volumes").rmdir()
