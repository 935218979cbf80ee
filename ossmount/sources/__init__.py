"""Sources: where the files of a mount come from. Public: :func:`open_source` and the sources themselves.

What may live here: the choice of the source. Who may touch it: whoever adds a kind of source.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ossmount.config import SourceSettings
from ossmount.errors import SettingsError
from ossmount.protocols import OpenStore, Source
from ossmount.sources.columns import parse_columns
from ossmount.sources.label_sources import LabelledSource, label_source
from ossmount.sources.listing_process import ListingStores
from ossmount.sources.manifest import ManifestSource
from ossmount.sources.object_list import ObjectListSource
from ossmount.sources.prefix import PrefixSource
from ossmount.sources.readers import load_hook
from ossmount.sources.text_file import (
    KEPT_INPUT,
    KEPT_INPUT_DIGEST_BYTES,
    STANDARD_INPUT,
    is_standard_input,
)
from ossmount.uris import HTTP_SCHEMES, parse_uri, shown_uri

__all__ = [
    "KEPT_INPUT",
    "KEPT_INPUT_DIGEST_BYTES",
    "STANDARD_INPUT",
    "ManifestSource",
    "ObjectListSource",
    "PrefixSource",
    "is_standard_input",
    "labelled",
    "open_source",
]


def open_source(
    uri: str | None,
    settings: SourceSettings,
    open_store: OpenStore,
    *,
    uris: Sequence[str] = (),
    spool: Path | None = None,
    lister: ListingStores | None = None,
) -> Source:
    """The source that ``uri`` and ``settings`` describe. No request is made yet.

    ``--manifest`` makes a manifest, whose base is ``--base-uri`` or else ``uri``; ``--objects`` or
    ``uris`` make an object list; otherwise ``uri`` is a prefix, whose listing goes on from ``spool`` and,
    where ``lister`` is given, is made by a forked process with the stores of that.
    Raises SettingsError for contradictions.
    """
    source = _source(uri, settings, open_store, uris, spool, lister)
    return labelled(source, settings, open_store)


def labelled(source: Source, settings: SourceSettings, open_store: OpenStore) -> Source:
    """``source`` with the labels of ``--label-from``, if that is given. Raises SettingsError."""
    if settings.label_from is None:
        return source
    return LabelledSource(source, label_source(settings.label_from, open_store, settings.size_concurrency))


def _source(
    uri: str | None,
    settings: SourceSettings,
    open_store: OpenStore,
    uris: Sequence[str],
    spool: Path | None,
    lister: ListingStores | None,
) -> Source:
    listed = settings.objects is not None or bool(uris)
    if settings.manifest is not None and listed:
        raise SettingsError("--manifest and an object list exclude each other", "use one of the two")
    if settings.manifest is not None:
        return _manifest(settings.manifest, uri, settings, open_store)
    for name in ("base_uri", "columns", "manifest_parser"):
        if getattr(settings, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise SettingsError(f"{flag} belongs to --manifest", "leave it out, or give a manifest")
    if listed:
        if uri is not None:
            raise SettingsError(
                f"{shown_uri(uri)} and an object list exclude each other", "use one of the two"
            )
        return ObjectListSource(
            settings.objects,
            open_store,
            uris=uris,
            concurrency=settings.size_concurrency,
            skip_missing=settings.on_missing == "skip",
        )
    return _prefix(uri, open_store, spool, lister)


def _manifest(place: str, uri: str | None, settings: SourceSettings, open_store: OpenStore) -> ManifestSource:
    if uri is not None and settings.base_uri is not None and parse_uri(uri) != parse_uri(settings.base_uri):
        raise SettingsError(f"{uri} and --base-uri {settings.base_uri} are two bases", "leave one out")
    base = settings.base_uri if settings.base_uri is not None else uri
    if base is not None:
        parse_uri(base)  # a base that is none is better refused before anything is read
    return ManifestSource(
        place,
        base,
        open_store,
        concurrency=settings.size_concurrency,
        skip_missing=settings.on_missing == "skip",
        mapping=parse_columns(settings.columns) if settings.columns is not None else None,
        hook=load_hook(settings.manifest_parser) if settings.manifest_parser is not None else None,
    )


def _prefix(
    uri: str | None, open_store: OpenStore, spool: Path | None, lister: ListingStores | None
) -> PrefixSource:
    if uri is None:
        raise SettingsError("nothing to mount", "give a URI such as s3://bucket/prefix/, or --manifest")
    root, prefix = parse_uri(uri)
    if root.startswith(HTTP_SCHEMES):
        raise SettingsError(
            f"{shown_uri(uri)}: HTTP has no listing", "name the objects with --objects or --manifest"
        )
    return PrefixSource(root, prefix, open_store, spool=spool, lister=lister)
