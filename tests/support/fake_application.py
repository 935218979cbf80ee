"""An application that notes what it was asked and answers as it was told: for tests of the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from ossmount.app.artefacts import Pushed
from ossmount.app.changes import ChangedPath
from ossmount.app.finding import Finding
from ossmount.app.generations import Refreshed
from ossmount.app.verifying import Difference, Verified
from ossmount.app.warming import Warmed
from ossmount.config import Settings
from ossmount.model import Attributes, Child, IndexInfo, Kind, Progress
from ossmount.protocols import Report

INFO = IndexInfo(
    format=1,
    source="s3://b/p/",
    created=1_700_000_000.0,
    generation=3,
    files=2,
    directories=1,
    total_bytes=3 << 20,
    checksum="abc",
    labels=("cat", "dog"),
    options={"layout": "labels"},
)


class Renamed(NamedTuple):
    """A row of a report."""

    kind: str
    key: bytes
    name: bytes


class Mounted(NamedTuple):
    """A live mount."""

    mountpoint: str
    source: str
    index: str
    started: float
    generation: int


@dataclass
class FakeApplication:
    """``calls`` are (function, arguments); ``failure`` is raised by whatever is called."""

    failure: BaseException | None = None
    findings: Sequence[Finding] = ()
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def _note(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, arguments))
        if self.failure is not None:
            raise self.failure

    @property
    def settings(self) -> Settings:
        """The settings of the one call that was made."""
        ((_, arguments),) = self.calls
        return next(a for a in arguments if isinstance(a, Settings))

    def mount(
        self, sources: Sequence[str], mountpoint: str, settings: Settings, *, foreground: bool, report: Report
    ) -> int:
        self._note("mount", list(sources), mountpoint, settings, foreground)
        report(Progress("listing", 1, None, "keys"))
        return 0

    def umount(self, mountpoint: str, lazy: bool = False) -> None:
        self._note("umount", mountpoint, lazy)

    def list_mounts(self) -> Iterable[Mounted]:
        self._note("list_mounts")
        return [Mounted("/mnt/a b", "s3://b/p/", "/i", 1_700_000_000.0, 3)]

    def warm(
        self,
        mountpoint: str,
        paths: Sequence[str] = (),
        *,
        label: str | None = None,
        limit: int | None = None,
        report: Report,
    ) -> Warmed:
        self._note("warm", mountpoint, list(paths), label, limit)
        report(Progress("warming", 1 << 20, 3 << 20, "bytes"))
        return Warmed(files=2, bytes=3 << 20, present_bytes=1 << 20, declined_bytes=0, failed_files=0)

    def read_statistics(self, mountpoint: str) -> dict[str, Any]:
        self._note("read_statistics", mountpoint)
        return {"store": {"get_requests": 1234}, "cache": {"hits": 5}}

    def build_index(self, sources: Sequence[str], path: str, settings: Settings, report: Report) -> IndexInfo:
        self._note("build_index", list(sources), path, settings)
        return INFO

    def refresh_index(
        self, path: str, settings: Settings, report: Report, note: Callable[[Any], None]
    ) -> Refreshed:
        self._note("refresh_index", path, settings)
        note(ChangedPath("changed", b"a\tb"))
        return Refreshed(path, 2, 3, "abc", 5, added=0, changed=1, gone=0, seconds=0.5)

    def view_create(self, name: str, settings: Settings) -> Path:
        self._note("view_create", name, settings)
        return Path("/views") / name

    def view_show(self, name: str) -> str:
        self._note("view_show", name)
        return "{}\n"

    def push_index(self, path: str, uri: str, settings: Settings, report: Report, *, prune: bool) -> Pushed:
        self._note("push_index", path, uri, settings, prune)
        return Pushed(uri, "xxh3-128:ab", 4096, 1024, 512, 2)

    def pull_index(self, uri: str, path: str, settings: Settings, report: Report) -> IndexInfo:
        self._note("pull_index", uri, path, settings)
        return INFO

    def verify(
        self, target: str, settings: Settings, report: Report, note: Callable[[Any], None], *, contents: bool
    ) -> Verified:
        self._note("verify", target, contents, settings)
        note(Difference("size", b"a\tb", "1 in the index, 2 now"))
        return Verified(5, 1, 0, 0)

    def refresh_mount(self, mountpoint: str) -> Mapping[str, Any]:
        self._note("refresh_mount", mountpoint)
        return asdict(Refreshed("/i", 2, 2, "abc", 5, added=0, changed=0, gone=0, seconds=0.5))

    def run_csi(self, endpoint: str, node_id: str, **options: Any) -> int:
        self._note("run_csi", endpoint, node_id, options)
        return 0

    def run_sidecar(self, directory: Path, plugin_uid: int, environment: Mapping[str, str]) -> int:
        self._note("run_sidecar", directory, plugin_uid)
        return 0

    def check_sidecar(self, directory: Path, plugin_uid: int) -> int:
        self._note("check_sidecar", directory, plugin_uid)
        return 0

    def index_info(self, path: str) -> IndexInfo:
        self._note("index_info", path)
        return INFO

    def index_ls(self, path: str, directory: str) -> Iterable[Child]:
        self._note("index_ls", path, directory)
        return [
            Child(b"a\xff\nb", Attributes(2, Kind.FILE, 7, 1_700_000_000_000_000_000, 1)),
            Child("ü".encode(), Attributes(3, Kind.DIRECTORY, 0, 0, 2)),
        ]

    def index_export(self, path: str, output: IO[bytes]) -> int:
        output.write(b"key\tsize\n")
        self._note("index_export", path)
        output.write(b"a\t7\n")
        return 1

    def index_report(self, path: str) -> Iterable[Renamed]:
        self._note("index_report", path)
        return [Renamed("escaped", b"a//b", b"a/%/b")]

    def doctor(self, source: str | None, settings: Settings) -> Iterable[Finding]:
        self._note("doctor", source, settings)
        return self.findings
