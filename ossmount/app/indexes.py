"""Which index a mount uses: the one that is named, one that is kept, or one built now.

A kept index lives in the cache directory under a digest of everything that shapes the tree. A local
manifest's size and modification time are part of it, so an edited manifest is read again; a bucket's
content is not (that would take a LIST): ``--rebuild`` or a refresh brings it up to date.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ossmount import index, sources
from ossmount.app import views
from ossmount.app.artefacts import is_artefact, pulled_index
from ossmount.app.cache_place import cache_directory
from ossmount.app.isolation import in_child
from ossmount.app.pruning import UNUSED_SECONDS, note_use, remove_older
from ossmount.app.recipe import absolute_place, recipe_of
from ossmount.app.standard_input import standard_input_as_file
from ossmount.config import Settings, SourceSettings, ViewSettings
from ossmount.errors import IndexFileError, SettingsError, SourceError, TwoSizes
from ossmount.model import IndexInfo
from ossmount.places import is_missing
from ossmount.protocols import OpenStore, Report, Source
from ossmount.stores import StorePool


@dataclass(frozen=True, slots=True)
class ChosenIndex:
    """An index to mount. ``built`` says whether it was made just now."""

    path: Path
    info: IndexInfo
    built: bool

    def describe(self) -> str:
        """Which index and how old, in a line for the user."""
        age = "built now" if self.built else f"{describe_age(time.time() - self.info.created)} old"
        return f"index {self.path} ({self.info.files:,} files, {age})"


def describe_age(seconds: float) -> str:
    """``seconds`` in the largest unit that gives a whole number (``3 h``)."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def choose_index(uris: Sequence[str], settings: Settings, report: Report) -> ChosenIndex:
    """The index to mount: opened if it is there, else built in a child process.

    Raises SettingsError, SourceError, StoreError, IndexFileError.
    """
    settings = views.resolved(settings)
    views.description_of(settings)  # a mistake in it is better told before anything is listed
    parts = views.parts_of([_here(uri, settings, report) for uri in uris])
    kept = cache_directory(settings.cache) / "indexes"
    with standard_input_as_file(settings, kept, mode=0o700) as settled:
        return _choose_view([(part, _choose_base(part, settled, report)) for part in parts], settled, report)


PARTS = "pulls"
"""Folder of the cache directory where parts of a pull wait until all are there."""


def _here(uri: str, settings: Settings, report: Report) -> str:
    """``uri``, or for an index in a store (``NAME=URI`` too) the local file that it is pulled to."""
    name, equals, named = uri.partition("=")
    if not is_artefact(uri) and equals and "/" not in name and ":" not in name:
        return f"{name}={_here(named, settings, report)}"
    if not is_artefact(uri):
        return uri
    cache = cache_directory(settings.cache)
    return str(in_child(lambda: pulled_index(uri, cache / "indexes", settings, report, cache / PARTS)))


def _choose_view(
    bases: Sequence[tuple[views.Part, ChosenIndex]], settings: Settings, report: Report
) -> ChosenIndex:
    """The index of the view that is asked for: the base itself where that shows everything as it is."""
    if len(bases) == 1 and bases[0][1].info.options.get("layout") == "labels":
        # Built so already; the layout is not done twice.
        settings = replace(settings, index=replace(settings.index, layout="keys", unlabelled="keep"))
    view = views.description_of(settings)
    part, base = bases[0]
    if view.is_identity and len(bases) == 1 and not part.name:
        return base
    named = [(part.name, base.info) for part, base in bases]
    path = views.derived_path(cache_directory(settings.cache), named, view, settings.index.on_bad_key)
    if not is_missing(path):
        found = in_child(lambda: views.info_of(path))
        if found.generation == 1:  # what is refreshed later is the view of other bases than its name tells
            note_use(path)
            return ChosenIndex(path, found, built=False)
    _make_directory_of(path)
    remove_older(path.parent, f"*{views.SUFFIX}", UNUSED_SECONDS)
    files = [f"{part.name}={base.path}" if part.name else str(base.path) for part, base in bases]
    alone = replace(settings, source=SourceSettings())  # what the bases were made of stands in them
    info = in_child(lambda: build_index(files, path, alone, report))
    return ChosenIndex(path, info, built=True)


def _choose_base(part: views.Part, settings: Settings, report: Report) -> ChosenIndex:
    """The index of everything: the named file, or that of a source in the layout of its keys."""
    if part.file is not None:
        if settings.source.label_from is not None:
            raise SettingsError(
                "--label-from belongs to the building of an index",
                f"make another first: ossmount index build --label-from ... {part.file} NEW.ossidx",
            )
        path = part.file.absolute()
        return ChosenIndex(path, in_child(lambda: views.info_of(path)), built=False)
    if not settings.index.index:
        return _choose_index(part.sources, views.without_view(settings), report)
    if part.name:
        raise SettingsError("--index belongs to a single source", "leave it out, or the names of sources")
    # An index that is named keeps the layout it is built with.
    return _choose_index(part.sources, replace(settings, view=ViewSettings()), report)


def _choose_index(uris: Sequence[str], settings: Settings, report: Report) -> ChosenIndex:
    path = Path(settings.index.index).absolute() if settings.index.index else _kept_path(uris, settings)
    if not is_missing(path) and not settings.index.rebuild:
        return ChosenIndex(path, in_child(lambda: views.info_of(path)), built=False)
    if not uris and not settings.source.manifest and not settings.source.objects:
        raise SettingsError(f"no index at {path} and no source to build it from", "name a SOURCE")
    _make_directory_of(path)
    info = in_child(lambda: build_index(uris, path, settings, report))
    return ChosenIndex(path, info, built=True)


def _make_directory_of(path: Path) -> None:
    """The directory in which the index is built, made if it is missing (0700). Raises IndexFileError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise IndexFileError(
            f"cannot make the directory {path.parent} for an index: {error.strerror}",
            "name a writable one with --cache-dir or --index",
        ) from error


def build_index(
    uris: Sequence[str],
    path: Path,
    settings: Settings,
    report: Report,
    previous: index.LmdbIndex | None = None,
) -> IndexInfo:
    """Reads the source and writes its index to ``path`` (atomically).

    ``previous`` is the generation before, whose inode numbers go on. On failure nothing is left but what
    was listed, for the next try to go on from; where another try would fail the same way, not even that.
    """
    pool = StorePool(settings.store)
    spool = _spool_beside(path, settings.store.endpoint_url)
    lister = StorePool(settings.store)  # opened in the process that lists, and nowhere else
    try:
        source = open_source(uris, settings, pool, spool, lister)
        return index.build(
            source.batches(report),
            path,
            source=source.description,
            sorted_input=source.sorted,
            options=recipe_of(uris, settings),
            on_bad_key=settings.index.on_bad_key,
            report=report,
            previous=previous,
            one_size=settings.source.manifest is not None,
        )
    except TwoSizes as error:
        raise _with_rows(error, uris, settings, pool) from error
    except (IndexFileError, SourceError):
        with suppress(OSError):  # of a directory that cannot be used, which is what the error says
            spool.unlink()
        raise
    finally:
        pool.close()


def _with_rows(error: TwoSizes, uris: Sequence[str], settings: Settings, pool: OpenStore) -> SourceError:
    """The error with the rows of the manifest: an index knows of none, so it is read once more."""
    plain = replace(settings.source, label_from=None)
    source = sources.open_source(uris[0] if uris else None, plain, pool)
    return source.two_sizes(error) if isinstance(source, sources.ManifestSource) else error


def _spool_beside(path: Path, endpoint: str | None) -> Path:
    """Where the listing for the index at ``path``, or for its next generation, keeps what it has.

    A file for each endpoint: the bucket of the same name is another one there.
    """
    where = f".{hashlib.blake2b(endpoint.encode(), digest_size=4).hexdigest()}" if endpoint else ""
    return path.with_name(f".{path.name.partition('.tmp.')[0]}{where}.listing")


def open_source(
    uris: Sequence[str],
    settings: Settings,
    pool: OpenStore,
    spool: Path | None = None,
    lister: StorePool | None = None,
) -> Source:
    """The source that ``uris`` and the settings name, as the view they ask for shows it.

    ``spool`` keeps what was listed where a listing fails; ``lister`` opens stores in a process that lists.
    """
    single = uris[0] if len(uris) == 1 else None
    several = uris if len(uris) > 1 else ()
    files = [(part.name, part.file) for part in views.parts_of(uris) if part.file is not None]
    if files and len(files) == len(uris):
        return views.viewed(sources.labelled(views.IndexSource(files), settings.source, pool), settings)
    source = sources.open_source(single, settings.source, pool, uris=several, spool=spool, lister=lister)
    return views.viewed(source, settings)


def _kept_path(uris: Sequence[str], settings: Settings) -> Path:
    """Where the index of all this is kept. Local paths count as absolute ones: others are another tree."""
    base = settings.source.base_uri
    shape = {
        "sources": [absolute_place(uri) for uri in uris],
        "manifest": _name_of_list(settings.source.manifest),
        "manifest_version": _local_version(settings.source.manifest),
        "objects": _name_of_list(settings.source.objects),
        "objects_version": _local_version(settings.source.objects),
        "base_uri": base if base is None else absolute_place(base),
        "columns": settings.source.columns,
        "manifest_parser": settings.source.manifest_parser,
        "label_from": _name_of_labels(settings),
        "label_table_version": _local_version(_label_table(settings)),
        "on_missing": settings.source.on_missing,
        "endpoint": settings.store.endpoint_url,
        "layout": settings.index.layout,
        "unlabelled": settings.index.unlabelled,
        "on_bad_key": settings.index.on_bad_key,
        "format": index.FORMAT,
    }
    digest = hashlib.blake2b(json.dumps(shape, sort_keys=True).encode(), digest_size=12).hexdigest()
    return cache_directory(settings.cache) / "indexes" / f"{digest}.ossidx"


def _label_table(settings: Settings) -> str | None:
    kind, _, place = (settings.source.label_from or "").partition(":")
    return place.partition("#")[0] if kind == "table" else None


def _name_of_labels(settings: Settings) -> str | None:
    table, told = _label_table(settings), settings.source.label_from
    if table is None or told is None:
        return told
    return f"table:{absolute_place(table)}{told.removeprefix(f'table:{table}')}"


def _name_of_list(place: str | None) -> str | None:
    """The place of a list; of one from standard input the name alone, for each copy is somewhere else."""
    if place is None:
        return None
    return Path(place).name if sources.is_standard_input(place) else absolute_place(place)


def _local_version(name: str | None) -> list[int] | None:
    """Size and modification time of a local file; None for a URI, or where there is none.

    A file made of standard input has its content in its name, and a new time at each mount.
    """
    if name is None or "://" in name or sources.is_standard_input(name):
        return None
    try:
        status = Path(name).stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
