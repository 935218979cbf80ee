"""Views on indexes: what is shown of which, and under which names.

What may live here: the way from options and saved views to a description, indexes as sources, and the
place of derived indexes. The transforms are pure and stand in :mod:`ossmount.sources.views`. Who may touch
it: whoever changes what a view may be made of. Nothing above the index knows of views: a view is an index
of its own, built from others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ossmount import index
from ossmount.config import IndexSettings, Settings, ViewSettings, parse_value
from ossmount.errors import SettingsError
from ossmount.model import EntryBatch, IndexInfo, Progress
from ossmount.places import is_missing, replacing
from ossmount.protocols import Report, Source
from ossmount.sources.labels import label_fault
from ossmount.sources.view_description import ViewDescription, parse_view, view_of
from ossmount.sources.views import ViewedSource, union
from ossmount.uris import is_uri

SUFFIX = ".ossidx"
"""What the names of index files end in; only so is an index told from a directory as SOURCE."""

_Section = TypeVar("_Section", ViewSettings, IndexSettings)

_NAMED = re.compile(r"([^/=:]+)=(.+)", re.DOTALL)


class Part(NamedTuple):
    """One of the trees in a mount: below ``name``, or at the root where that is empty."""

    name: str
    sources: tuple[str, ...]

    @property
    def file(self) -> Path | None:
        """The index file that it is, if it is one."""
        single = self.sources[0] if len(self.sources) == 1 else ""
        return Path(single) if is_index(single) else None


def is_index(source: str) -> bool:
    """Whether ``source`` names a local index file."""
    return source.endswith(SUFFIX) and not is_uri(source)


def parts_of(uris: Sequence[str]) -> list[Part]:
    """The trees that ``uris`` name: each ``NAME=SOURCE`` below its name, indexes and prefixes merged.

    Anything else is one source (several URIs of objects are one list). Raises SettingsError.
    """
    named = [_named(uri) for uri in uris]
    whole = all(part.name or part.file or uri.endswith("/") for part, uri in zip(named, uris, strict=True))
    if len(uris) > 1 and whole:
        _check_names([part.name for part in named if part.name])
        return named
    if len(uris) == 1 and (named[0].name or named[0].file):
        return named
    for part in named:
        if part.name or part.file:
            raise SettingsError(
                f"{part.sources[0]} cannot be mounted together with single objects",
                "mount indexes and prefixes that end in '/' together, or objects",
            )
    return [Part("", tuple(uris))]


def _named(uri: str) -> Part:
    match = _NAMED.fullmatch(uri) if is_missing(uri) else None
    return Part("", (uri,)) if match is None else Part(match[1], (match[2],))


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        fault = label_fault(name)
        if fault is not None:
            raise SettingsError(f"{name!r} cannot be the name of a source: {fault}", "write NAME=SOURCE")
        if names.count(name) > 1:
            raise SettingsError(f"two sources have the name {name!r}", "give them different names")


def resolved(settings: Settings) -> Settings:
    """``settings`` with the options of the view that ``--view`` names; an option that is given wins.

    Raises SettingsError.
    """
    if settings.view.view is None:
        return settings
    if is_view_file(settings.view.view) and not settings.store.local_files:
        raise SettingsError(f"the view {settings.view.view} may not be opened here", "name a saved view")
    saved = load_view(settings.view.view).options()
    values = {name: parse_value(name, text, settings.view.view) for name, text in saved.items()}
    tree = {name: values.pop(name) for name in sorted(values.keys() & {"layout", "unlabelled"})}
    return dataclasses.replace(
        settings,
        view=_filled(dataclasses.replace(settings.view, view=None), values, settings.given),
        index=_filled(settings.index, tree, settings.given),
    )


def _filled(section: _Section, values: dict[str, Any], given: Collection[str]) -> _Section:
    """``section`` with ``values`` where it is at its defaults, and nobody has asked for those."""
    free = {field.name: field.default for field in dataclasses.fields(section) if field.name not in given}
    taken = {
        name: value for name, value in values.items() if name in free and getattr(section, name) == free[name]
    }
    return dataclasses.replace(section, **taken)


def description_of(settings: Settings) -> ViewDescription:
    """The view that :func:`resolved` settings ask for. Raises SettingsError."""
    return view_of(settings.view, settings.index.layout, settings.index.unlabelled)


def without_view(settings: Settings) -> Settings:
    """``settings`` of the base index: everything, in the layout of its keys."""
    tree = dataclasses.replace(settings.index, layout="keys", unlabelled="keep")
    return dataclasses.replace(settings, view=ViewSettings(), index=tree)


def viewed(source: Source, settings: Settings) -> Source:
    """``source`` as the options show it: itself where they ask for nothing."""
    view = description_of(resolved(settings))
    return source if view.is_identity else ViewedSource(source, view)


class IndexSource:
    """Index files as a source: one, or several below their names. Opened where they are read."""

    def __init__(self, parts: Sequence[tuple[str, Path]]) -> None:
        self._parts = tuple(parts)

    def __repr__(self) -> str:
        return f"IndexSource({self.description!r})"

    @property
    def description(self) -> str:
        """The source of a single index; else the files with their names."""
        if len(self._parts) == 1 and not self._parts[0][0]:
            return info_of(self._parts[0][1]).source
        return ", ".join(f"{name}={path}" if name else str(path) for name, path in self._parts)

    @property
    def sorted(self) -> bool:
        """Where names are there and in order; merged trees have to be sorted."""
        names = [name.encode("utf-8", "surrogateescape") + b"/" for name, _ in self._parts]
        return len(names) == 1 or (b"/" not in names and names == sorted(names))

    def batches(self, report: Report) -> Iterator[EntryBatch]:
        """All files of all indexes. Raises IndexFileError."""
        done = 0
        for batch in union([(name, _exported(path)) for name, path in self._parts]):
            done += len(batch)
            report(Progress("view", done, None, "files"))
            yield batch


def _exported(path: Path) -> Iterator[EntryBatch]:
    with index.open_index(path) as opened:
        yield from index.export(opened)


def info_of(path: Path) -> IndexInfo:
    """What the index file says of itself. Raises IndexFileError."""
    with index.open_index(path) as opened:
        return opened.info()


def derived_path(
    directory: Path, bases: Sequence[tuple[str, IndexInfo]], view: ViewDescription, on_bad_key: str
) -> Path:
    """Where the index of ``view`` on ``bases`` is kept: a digest of all that shapes it."""
    shape = [[name, info.checksum] for name, info in bases], view.to_json(), on_bad_key, index.FORMAT
    digest = hashlib.blake2b(json.dumps(shape).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return directory / "indexes" / "views" / f"{digest}{SUFFIX}"


def is_view_file(name: str) -> bool:
    """Whether ``name`` is a path to a view, and not the name of a saved one."""
    return "/" in name or name.endswith(".json")


def view_path(name: str) -> Path:
    """The file of the view ``name``: itself where it is a path, else below the configuration directory."""
    if is_view_file(name):
        return Path(name)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "ossmount" / "views" / f"{name}.json"


def load_view(name: str) -> ViewDescription:
    """The saved view ``name``. Raises SettingsError."""
    path = view_path(name)
    try:
        return parse_view(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"the view {path} cannot be read: {reason}", "make it with 'ossmount view create'"
        ) from error


def view_create(name: str, settings: Settings) -> Path:
    """Saves the view that ``settings`` describe and says where. Raises SettingsError."""
    if not name:
        raise SettingsError("a view needs a name", "write one, or a path that ends in .json")
    text = description_of(resolved(settings)).to_json()
    path = view_path(name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as output:
            output.write(text.encode())
    except OSError as error:
        raise SettingsError(
            f"the view {path} cannot be written: {error.strerror}", "name a file that can be"
        ) from error
    return path


def view_show(name: str) -> str:
    """The saved view as its JSON text. Raises SettingsError."""
    return load_view(name).to_json()
