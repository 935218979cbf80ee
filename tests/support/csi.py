"""The CSI driver as a process of its own, and a gRPC client on its socket. Touch it when a call is added."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from ossmount.k8s import schema
from tests.support.mounting import is_mounted, is_running, wait_for

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
CALL_SECONDS = 40.0

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="needs root and /dev/fuse to mount for others"
)


class Failed(Exception):
    """A call ended with a code other than OK."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code, self.details = code, details


class Client:
    """Calls by name, messages as keyword arguments."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, seconds: float = CALL_SECONDS, **fields: Any) -> Any:
        """``Node/NodeGetInfo`` and the like. Raises Failed."""
        name = method.partition("/")[2]
        stub = self._channel.unary_unary(
            f"/{schema.PACKAGE}.{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=schema.message(f"{name}Response").FromString,
        )
        try:
            return stub(schema.message(f"{name}Request")(**fields), timeout=seconds)
        except grpc.RpcError as error:
            raise Failed(error.code().name, error.details()) from None

    def raw(self, method: str, request: bytes = b"") -> bytes:
        """Any method with bytes as they stand. Raises Failed."""
        try:
            return bytes(self._channel.unary_unary(f"/{method}")(request, timeout=CALL_SECONDS))
        except grpc.RpcError as error:
            raise Failed(error.code().name, error.details()) from None

    def publish(self, volume: str, target: Path, context: Mapping[str, str], **fields: Any) -> Any:
        """NodePublishVolume with a capability for mounting (``mode`` by name, ``flags``, ``fs_type``)."""
        seconds = fields.pop("seconds", CALL_SECONDS)
        given = {"volume_capability": capability(**_capability_fields(fields)), "readonly": True} | fields
        return self.call(
            "Node/NodePublishVolume",
            seconds,
            volume_id=volume,
            target_path=str(target),
            volume_context=context,
            **given,
        )

    def unpublish(self, volume: str, target: Path) -> Any:
        return self.call("Node/NodeUnpublishVolume", volume_id=volume, target_path=str(target))

    def stats(self, volume: str, path: Path) -> Any:
        return self.call("Node/NodeGetVolumeStats", volume_id=volume, volume_path=str(path))


def _capability_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields.pop(name) for name in ("mode", "flags", "fs_type") if name in fields}


def capability(mode: str = "MULTI_NODE_READER_ONLY", flags: tuple[str, ...] = (), fs_type: str = "") -> Any:
    """A VolumeCapability of the mount kind."""
    number = schema.value("VolumeCapability.AccessMode.Mode", mode)
    made = schema.message("VolumeCapability")(access_mode={"mode": number})
    made.mount.SetInParent()
    made.mount.mount_flags.extend(flags)
    made.mount.fs_type = fs_type
    return made


@dataclass
class Plugin:
    """A driver with its directories below ``home``; :meth:`start` may be called again after :meth:`kill`."""

    home: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ("-m", "ossmount")
    process: subprocess.Popen[bytes] | None = None
    client_: Client | None = None

    @property
    def socket(self) -> Path:
        return self.home / "csi.sock"

    @property
    def state(self) -> Path:
        return self.home / "volumes"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def log_file(self) -> Path:
        return self.home / "log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def client(self) -> Client:
        assert self.client_ is not None
        return self.client_

    @property
    def pods(self) -> Path:
        return self.home / "pods"

    def command(self) -> list[str]:
        return [
            *(sys.executable, *self.prefix, "csi"),
            *("--endpoint", f"unix://{self.socket}", "--node-id", "node-1"),
            *("--secrets-dir", str(self.secrets), *self.options),
        ]

    def variables(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        own = {
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "OSSMOUNT_RUNTIME_DIR": str(self.home / "runtime"),
            "OSSMOUNT_CACHE_DIR": str(self.home / "cache"),
            "OSSMOUNT_CACHE_SIZE": "64M",
            "OSSMOUNT_WORKERS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        return kept | own | self.environment

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.variables(), cwd=self.home, stdout=log, stderr=log
            )
        process = self.process
        self.client_ = Client(self.socket)
        wait_for(lambda: self.answers() or process.poll() is not None, START_SECONDS, lambda: self.log)
        if process.poll() is not None:
            pytest.fail(f"the driver ended with {process.returncode}\n{self.log}")

    def answers(self) -> bool:
        with contextlib.suppress(Failed):
            return bool(self.client.call("Identity/Probe", 1.0).ready.value)
        return False

    def end_client(self) -> None:
        if self.client_ is not None:
            self.client_.close()

    def kill(self, signum: int = signal.SIGKILL) -> int:
        """Ends the driver alone; mounts stay."""
        assert self.process is not None
        self.end_client()
        self.process.send_signal(signum)
        return self.process.wait(20)

    def target(self, name: str = "data", pod: str = "pod-1") -> Path:
        """A target path as kubelet makes it: the parent is there, the target is not."""
        path = self.pods / pod / "volumes" / "kubernetes.io~csi" / name / "mount"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def empty_dir(self, pod: str = "pod-1") -> Path:
        """The Pod's emptyDir as kubelet makes it."""
        path = self.pods / pod / "volumes" / "kubernetes.io~empty-dir" / "ossmount-tmp"
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        return path

    def mounts(self) -> list[Path]:
        paths = (Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines())
        return [path for path in paths if path.is_relative_to(self.home)]

    def processes(self) -> list[int]:
        """Every process of this home but the driver itself."""
        mark = f"OSSMOUNT_RUNTIME_DIR={self.home}".encode()
        own = self.process.pid if self.process is not None else 0
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if (
                    folder.name.isdigit()
                    and int(folder.name) != own
                    and mark in (folder / "environ").read_bytes()
                ):
                    found.append(int(folder.name))
        return [pid for pid in found if is_running(pid)]

    def left_behind(self) -> list[str]:
        """Mounts, processes, targets, records, secrets and sockets that nobody should find."""
        wait_until = time.monotonic() + 3
        while self.processes() and time.monotonic() < wait_until:
            time.sleep(0.02)
        folders = [self.state, self.secrets, self.home / "runtime"]
        files = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        mounts = self.mounts()
        if not mounts:  # a mount may be dead
            files += [path for path in self.pods.rglob("*") if path.name in {"mount", "socket"}]
        return [*map(str, mounts), *(f"process {pid}" for pid in self.processes()), *map(str, files)]

    def sweep(self) -> list[str]:
        """What was left behind; it is cleared away, so that the next test does not find it."""
        left = self.left_behind()
        if left:
            self.end()
            for folder in (self.state, self.secrets, self.home / "runtime", self.pods):
                shutil.rmtree(folder, ignore_errors=True)
            self.start()
        return left

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for path in self.mounts():
            subprocess.run(["umount", "-l", str(path)], check=False, timeout=10, capture_output=True)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def plugin(
    home: Path, *options: str, environment: Mapping[str, str] | None = None, started: bool = True
) -> Iterator[Plugin]:
    """A driver that runs, unless it is to be ``started`` later; at the end nothing of it does."""
    home.mkdir(parents=True)
    made = Plugin(home, options, dict(environment or {}))
    try:
        if started:
            made.start()
        yield made
    finally:
        made.end()


__all__ = ["Client", "Failed", "Plugin", "capability", "is_mounted", "needs_root", "plugin", "wait_for"]
