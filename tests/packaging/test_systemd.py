"""The units: accepted by systemd, free of what would hide the mount, and true of a real foreground mount.

Touch it when a unit or what a foreground mount tells changes.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossmount.cli.command import parse
from ossmount.cli.entry import choose
from ossmount.cli.options import parse_mount_options
from tests.support.command import Home, command_home
from tests.support.mounting import needs_fuse
from tests.support.programs import ROOT, output_of, program

UNITS = ROOT / "packaging/systemd"
SERVICE = UNITS / "ossmount@.service"

OWN_NAMESPACE = re.compile(
    r"^(Private(?!Network|Users)\w+|Protect\w+|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|RootDirectory"
    r"|RootImage|BindPaths|BindReadOnlyPaths|TemporaryFileSystem|MountFlags|MountAPIVFS|DynamicUser"
    r"|NoExecPaths|ExecPaths)=(?!no$|false$|shared$)",
    re.MULTILINE,
)
"""Settings of systemd.exec(5) that give a service a mount namespace of its own."""


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    for path in UNITS.iterdir():
        # The command of this environment stands for the installed one, which verify looks for.
        text = path.read_text().replace("/usr/bin/ossmount", f"{Path(sys.executable).parent}/ossmount")
        (tmp_path / path.name.replace("@.", "@mnt-train.")).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False, timeout=60
    )
    about_ours = [line for line in done.stderr.splitlines() if "ossmount" in line or "mnt-train" in line]
    assert about_ours == []
    assert done.returncode == 0, done.stderr


def test_the_service_has_no_mount_namespace_of_its_own() -> None:
    assert OWN_NAMESPACE.findall(SERVICE.read_text()) == []
    assert OWN_NAMESPACE.findall("ProtectSystem=strict\nPrivateTmp=yes\n") == ["ProtectSystem", "PrivateTmp"]


def test_the_service_runs_commands_that_there_are() -> None:
    service = unit(SERVICE)["Service"]
    for key in ("ExecStart", "ExecReload", "ExecStopPost"):
        words = service[key].lstrip("-").replace("${SOURCE}", "s3://bucket/").replace("%f", "/mnt").split()
        assert words[0] == "/usr/bin/ossmount"
        command, rest = choose(words[1:])
        parse(command, rest)
    assert "--foreground" in service["ExecStart"]
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed"


def test_the_mount_unit_is_named_after_its_mountpoint() -> None:
    mount = unit(UNITS / "mnt-train.mount")["Mount"]
    assert output_of(program("systemd-escape"), "--path", mount["Where"]).strip() == "mnt-train"
    assert unit(UNITS / "mnt-train.automount")["Automount"]["Where"] == mount["Where"]
    assert mount["Type"] == "fuse.ossmount"
    assert {given.name for given in parse_mount_options(mount["Options"])} == {"allow_other", "cache_size"}


# -- what a foreground mount tells ------------------------------------------------------------------------


@pytest.fixture
def home() -> Iterator[Home]:
    """Below /tmp itself: the notification socket's name must be short."""
    with contextlib.ExitStack() as stack:
        folder = Path(output_of("mktemp", "-d", "/tmp/osm.XXXXXX").strip())  # noqa: S108 - mktemp makes it
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield stack.enter_context(command_home(folder))


@pytest.fixture
def service_manager(home: Home) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(home.path / "notify"))
        told.settimeout(30)
        yield told


def as_the_unit_says() -> list[str]:
    """setpriv(1) with the capabilities that the unit leaves."""
    kept = unit(SERVICE)["Service"]["CapabilityBoundingSet"].lower().replace("cap_", "+").replace(" ", ",")
    return ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs"]


@needs_fuse
@pytest.mark.fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the unit has it")
def test_a_mount_with_the_units_rights_tells_its_state(home: Home, service_manager: socket.socket) -> None:
    source = home.path / "source"
    source.mkdir()
    (source / "x").write_text("read")
    mountpoint = home.directory()
    address = service_manager.getsockname()
    words = ["mount", "--foreground", "--clean", "--allow-other", f"file://{source}/", str(mountpoint)]
    process = subprocess.Popen(
        [*as_the_unit_says(), sys.executable, "-m", "ossmount", *words],
        env={**home.variables(), "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"},
        cwd=home.path,
        stderr=subprocess.DEVNULL,
    )
    try:
        while (said := service_manager.recv(4096)) == b"WATCHDOG=1":
            continue  # the loop turns already
        assert said.startswith(b"READY=1\nSTATUS=serving file://")
        assert (mountpoint / "x").read_text() == "read"
        assert [service_manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, home.log
    finally:
        process.kill()
        process.wait()
    service_manager.setblocking(False)
    last = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            last = service_manager.recv(4096)
    assert last.startswith(b"STOPPING=1")
    assert home.mounts() == []


@needs_fuse
@pytest.mark.fuse
def test_a_mount_in_the_background_tells_nothing(home: Home, service_manager: socket.socket) -> None:
    source = home.path / "source"
    source.mkdir()
    (source / "x").touch()
    mounted = home.mount(f"file://{source}/", env={"NOTIFY_SOCKET": service_manager.getsockname()})
    mounted.umount()
    service_manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        service_manager.recv(4096)
