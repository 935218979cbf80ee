"""What a repeated call finds, where the sidecar or the end of the driver comes between two of its steps."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ossmount.errors import MountError, MountpointUnusable
from ossmount.fuse.mountpoint import FILESYSTEM_TYPE
from ossmount.k8s.attributes import Policy, Serve
from ossmount.k8s.exchange import ERROR_FILE, FILE_MAX, SIDECAR, SOCKET, VOLUMES, Offer
from ossmount.k8s.folder import folders
from ossmount.k8s.offers import Offers, Place
from ossmount.k8s.processes import is_alive
from ossmount.k8s.publication import Publication
from ossmount.k8s.refusal import Refusal
from ossmount.k8s.serving import ServeByNode, ServeBySidecar
from ossmount.k8s.state import Phase, Record, State
from ossmount.k8s.volumes import Volumes

CONTEXT = {"source": "s3://bucket/train/", "serve": "sidecar"}


def publication(target: Path) -> Publication:
    mode = "SINGLE_NODE_READER_ONLY"
    return Publication("v", str(target), mode, True, "", (), CONTEXT, {}, {})


class FetchedMeanwhile(State):
    """Right after it was read for the first time, the record is no longer true: the sidecar came."""

    came = False

    def read(self, target: str) -> Record | None:
        record = super().read(target)
        if not self.came and record is not None:
            self.came = True
            fetch(Place.of(target))
        return record


def fetch(place: Place) -> None:
    """As the sidecar does, to the end of the message."""
    folder = folders(place.empty_dir, VOLUMES, place.volume)
    with folder as own, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(own.path(SOCKET))
        _, descriptors, _, _ = socket.recv_fds(connection, 4096, 4)
        while connection.recv(4096):
            pass
        for descriptor in descriptors:
            os.close(descriptor)


def test_who_waits_for_a_mount_gives_up_when_the_driver_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    node = ServeByNode(tmp_path / "secrets", os.environ, Policy())

    class EndingOnceStarted(State):
        def write(self, record: Record) -> Record:
            node.close()
            return super().write(record)

    state = EndingOnceStarted(tmp_path / "state")
    record = Record("v", str(tmp_path / "mount"), "", "")
    with pytest.raises(MountError, match="the driver ended before the mount served"):
        node.mount(record, None, state)
    found = state.read(record.target)
    assert found is not None
    assert found.process is not None
    assert not is_alive(found.process)


def test_an_index_of_the_node_is_only_read_whatever_the_defaults_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, str]] = []
    monkeypatch.setattr("ossmount.k8s.serving.start", lambda _, environment, **__: given.append(environment))
    defaults = {"OSSMOUNT_REFRESH": "10m", "OSSMOUNT_REBUILD": "true", "OSSMOUNT_RETRIES": "3"}
    node, state = ServeByNode(tmp_path / "secrets", defaults, Policy()), State(tmp_path / "state")
    node.mount(Record("v", str(tmp_path / "a"), "", "", options={"index": "/indexes/x.ossidx"}), None, state)
    node.mount(Record("v", str(tmp_path / "b"), "", ""), None, state)
    kept = [{name for name in environment if name in defaults} for environment in given]
    assert kept == [{"OSSMOUNT_RETRIES"}, set(defaults)]


@pytest.fixture
def offers() -> Iterator[Offers]:
    made = Offers(os.geteuid())
    yield made
    made.close()


@pytest.fixture
def offered(tmp_path: Path, offers: Offers, monkeypatch: pytest.MonkeyPatch) -> tuple[Volumes, State, Path]:
    """A volume whose descriptor waits; the kernel's part of its mount is left out."""
    pod = tmp_path / "pod" / "volumes"
    target = pod / "kubernetes.io~csi" / "data" / "mount"
    (pod / "kubernetes.io~empty-dir" / "ossmount-tmp").mkdir(parents=True)
    monkeypatch.setattr("ossmount.k8s.volumes.mounted_at", lambda _: SimpleNamespace(filesystem="another"))
    state = FetchedMeanwhile(tmp_path / "state")
    digest = publication(target).arguments()
    record = Record("v", str(target), digest, "", Serve.SIDECAR, phase=Phase.OFFERED)
    state.write(record)
    place = Place.of(str(target))
    place.make(offers.sidecar)
    device = os.open(os.devnull, os.O_RDONLY)
    handed = replace(record, phase=Phase.PUBLISHED)
    offers.make(str(target), place, Offer("data", (), {}), device, lambda: state.write(handed))
    node = ServeByNode(tmp_path / "secrets", {}, Policy())
    return Volumes(state, Policy(), node, ServeBySidecar(offers)), state, target


def test_a_sidecar_that_fetches_while_publish_is_repeated(offered: tuple[Volumes, State, Path]) -> None:
    volumes, state, target = offered
    volumes.publish(publication(target))
    found = state.read(str(target))
    assert found is not None
    assert found.phase is Phase.PUBLISHED, "nothing was undone"


def test_a_sidecar_that_fetches_while_statistics_are_asked(offered: tuple[Volumes, State, Path]) -> None:
    volumes, _, target = offered
    report = volumes.report("v", str(target))
    assert (report.abnormal, report.message) == (False, "waiting for the sidecar")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * FILE_MAX, '{"error": "x"}', '"message"'])
def test_whatever_stands_where_a_sidecar_tells_its_error(
    offered: tuple[Volumes, State, Path], offers: Offers, text: str
) -> None:
    """The Pod's user writes it, and the node plugin serves all other volumes meanwhile."""
    _, state, target = offered
    record, place = state.read(str(target)), Place.of(str(target))
    assert record is not None
    (place.empty_dir / VOLUMES / place.volume / SIDECAR / ERROR_FILE).write_text(text)
    assert ServeBySidecar(offers).problem(replace(record, phase=Phase.PUBLISHED)) == "the sidecar failed"


@pytest.fixture
def volumes(tmp_path: Path, offers: Offers) -> Volumes:
    """Of a node on which nothing was published yet."""
    node = ServeByNode(tmp_path / "secrets", {}, Policy())
    return Volumes(State(tmp_path / "state"), Policy(), node, ServeBySidecar(offers))


@pytest.mark.parametrize("serve", list(Serve))
def test_nothing_is_mounted_over_files(tmp_path: Path, volumes: Volumes, serve: Serve) -> None:
    """Nor remembered: an unpublish could not remove such a directory, and would fail for ever."""
    target = tmp_path / "volume" / "mount"
    target.mkdir(parents=True)
    (target / "precious").touch()
    call = replace(publication(target), context=CONTEXT | {"serve": serve})
    with pytest.raises(Refusal, match=r"INVALID_ARGUMENT: .* is not empty \(it holds 'precious'\)"):
        volumes.publish(call)
    assert list((tmp_path / "state").iterdir()) == []
    assert list(target.iterdir()) == [target / "precious"]


def test_a_mount_whose_own_process_takes_it_down_meanwhile(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = [SimpleNamespace(filesystem=FILESYSTEM_TYPE)]

    def too_late(path: Path, lazy: bool = False) -> None:
        mounts.clear()
        raise MountpointUnusable(f"nothing is mounted on {path}", "see 'ossmount list'")

    monkeypatch.setattr("ossmount.k8s.volumes.mounted_at", lambda _: mounts[0] if mounts else None)
    monkeypatch.setattr("ossmount.k8s.volumes.unmount", too_late)
    (tmp_path / "mount").mkdir()
    volumes.unpublish("v", str(tmp_path / "mount"))
    assert not (tmp_path / "mount").exists()


def test_a_volume_whose_index_is_still_built_is_not_published_yet(tmp_path: Path, volumes: Volumes) -> None:
    """Its process has not died either, of which statistics would warn."""
    target = str(tmp_path / "mount")
    State(tmp_path / "state").write(Record("v", target, "", ""))
    with pytest.raises(Refusal, match=r"NOT_FOUND: volume 'v' is not published at "):
        volumes.report("v", target)


def test_want_of_descriptors_does_not_end_the_thread_of_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sidecar would ever be served again."""
    again, selector = threading.Event(), selectors.DefaultSelector
    asked: list[None] = []

    def short_of_descriptors() -> selectors.DefaultSelector:
        asked.append(None)
        if len(asked) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        again.set()
        return selector()

    monkeypatch.setattr("ossmount.k8s.offers.PAUSE_SECONDS", 0)
    monkeypatch.setattr("selectors.DefaultSelector", short_of_descriptors)
    offers = Offers(os.geteuid())
    assert again.wait(20)
    offers.close()
