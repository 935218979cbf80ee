"""What the commands ask of :mod:`ossmount.app`, and nothing else of it.

What may live here: the interface; no behaviour. Tests pass a fake of it to :func:`ossmount.cli.main`.
Who may touch it: whoever adds a command, together with the function of the same name in ``app``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from ossmount.config import Settings
from ossmount.model import Child, IndexInfo
from ossmount.protocols import Report


class FindingLike(Protocol):
    """One result of ``doctor``; ``ok`` is None where nothing could be said."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def ok(self) -> bool | None: ...  # noqa: D102
    @property
    def detail(self) -> str: ...  # noqa: D102
    @property
    def remedy(self) -> str: ...  # noqa: D102


class Application(Protocol):
    """The functions of :mod:`ossmount.app`. All raise OssmountError and its kinds."""

    def mount(
        self, sources: Sequence[str], mountpoint: str, settings: Settings, *, foreground: bool, report: Report
    ) -> int:
        """Returns an exit status: when the mount serves, or after it ended where ``foreground``."""
        ...

    def umount(self, mountpoint: str, lazy: bool = False) -> None:
        """Ends the mount; ``lazy`` detaches it even where it is in use."""
        ...

    def list_mounts(self) -> Iterable[Any]:
        """Live mounts: rows with ``mountpoint``, ``source``, ``index``, ``started`` and ``generation``."""
        ...

    def read_statistics(self, mountpoint: str) -> dict[str, Any]:
        """Counters by room, added up over the mount's processes."""
        ...

    def warm(
        self,
        mountpoint: str,
        paths: Sequence[str] = (),
        *,
        label: str | None = None,
        limit: int | None = None,
        report: Report,
    ) -> Any:
        """Fetches into the disk cache: ``files``, ``bytes``, ``present_bytes``, ``fetched_bytes``."""
        ...

    def build_index(self, sources: Sequence[str], path: str, settings: Settings, report: Report) -> IndexInfo:
        """Builds the index at ``path``; leaves nothing behind where it fails."""
        ...

    def refresh_index(
        self, path: str, settings: Settings, report: Report, note: Callable[[Any], None]
    ) -> Any:
        """Builds the next generation at ``path``; ``note`` receives rows with ``what`` and ``path``.

        Gives a dataclass with ``previous``, ``generation``, ``added``, ``changed``, ``gone``, ``files``.
        """
        ...

    def view_create(self, name: str, settings: Settings) -> Path:
        """Saves the view that ``settings`` describe and says where."""
        ...

    def view_show(self, name: str) -> str:
        """The saved view as JSON text."""
        ...

    def push_index(self, path: str, uri: str, settings: Settings, report: Report, *, prune: bool) -> Any:
        """Publishes an index: a dataclass with ``uri``, ``index_bytes``, ``stored_bytes``, ``sent_bytes``."""
        ...

    def pull_index(self, uri: str, path: str, settings: Settings, report: Report) -> IndexInfo:
        """Fetches a published index; leaves ``path`` as it was where that fails."""
        ...

    def verify(
        self, target: str, settings: Settings, report: Report, note: Callable[[Any], None], *, contents: bool
    ) -> Any:
        """Compares an index (or a mount's) with its source; ``note`` receives what, path and detail.

        Gives a dataclass with ``files``, ``differences``, ``contents`` read and ``unproved`` ones.
        """
        ...

    def refresh_mount(self, mountpoint: str) -> Mapping[str, Any]:
        """Has a live mount go over to the next generation; the fields of what :meth:`refresh_index` gives."""
        ...

    def index_info(self, path: str) -> IndexInfo:
        """What the index says of itself."""
        ...

    def index_ls(self, path: str, directory: str) -> Iterable[Child]:
        """The children of ``directory`` (relative to the root, "" for the root)."""
        ...

    def index_export(self, path: str, output: IO[bytes]) -> int:
        """Writes the index as a manifest with a header (TSV) that ``--manifest`` takes; returns rows."""
        ...

    def index_report(self, path: str) -> Iterable[Any]:
        """Every rename, merge and skip: dataclasses or named tuples."""
        ...

    def doctor(self, source: str | None, settings: Settings) -> Iterable[FindingLike]:
        """Checks this machine, and ``source`` where it is given."""
        ...


class Kubernetes(Protocol):
    """The functions of :mod:`ossmount.k8s.entrances`. Statuses are the commands' own."""

    def run_csi(
        self,
        endpoint: str,
        node_id: str,
        *,
        driver_name: str,
        state: Path | None,
        secrets: Path | None,
        index_dir: Path | None,
        local_files: bool,
        sidecar_uid: int,
        environment: Mapping[str, str],
    ) -> int:
        """Until SIGTERM."""
        ...

    def run_sidecar(self, directory: Path, plugin_uid: int, environment: Mapping[str, str]) -> int:
        """Until SIGTERM."""
        ...

    def check_sidecar(self, directory: Path, plugin_uid: int) -> int:
        """0 when every volume of the Pod is served."""
        ...


def real_kubernetes() -> Kubernetes:
    """The package's own :mod:`ossmount.k8s`; imported here for the same reason."""
    from ossmount.k8s import entrances

    return entrances


def real_application() -> Application:
    """The package's own :mod:`ossmount.app`; imported here, so that ``--help`` need not wait for it."""
    from ossmount import app

    return app
