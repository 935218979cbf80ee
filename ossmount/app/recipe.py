"""What an index was made from, written into the index: so that the next generation can be made of it alone.

The recipe stands in ``IndexInfo.options`` by long option names: the sources as a JSON list under
``sources``, and every option that shaped the tree or says how to reach the store and that is not at its
default. Secrets are never part of it: credentials are found anew where the index is refreshed.
Who may touch it: whoever adds a section of settings that shapes a tree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ossmount.config import ALL_OPTIONS, SECTIONS, Settings, compose, parse_value
from ossmount.errors import SettingsError
from ossmount.places import is_missing
from ossmount.sources import STANDARD_INPUT, is_standard_input
from ossmount.uris import HTTP_SCHEMES, is_uri

SOURCES = "sources"

_ELSEWHERE = frozenset({"cache", "readahead", "mount", "observability"})
"""Sections that have no part in the tree. Every other one is recorded, those added later included."""

_NOT_RECORDED = frozenset({"index", "rebuild", "size_concurrency"})

_PLACES = frozenset({"manifest", "objects", "base_uri", "credentials_file"})
"""Options that may be local paths: recorded as absolute ones."""

_IDENTITIES = frozenset({"credentials_file", "profile", "ecs_ram_role"})
"""Options by which a store is asked in the name of the machine."""

_LISTS = frozenset({"manifest", "objects"})
"""Options that may be standard input or a pipe."""

_TABLE = "table:"
"""Begins a ``label_from`` that names a file (see ``sources.label_sources``)."""


def recipe_of(uris: Sequence[str], settings: Settings) -> dict[str, str]:
    """The recipe of the index that ``uris`` and ``settings`` make."""
    recipe = {"layout": settings.index.layout}
    recipe |= {name: _text(name, value) for name, value in _told(settings)}
    if uris:
        recipe[SOURCES] = json.dumps([_place(uri) for uri in uris])
    return recipe


def from_recipe(recipe: Mapping[str, str], now: Settings, place: str) -> tuple[list[str], Settings]:
    """``(sources, settings)`` to make the index at ``place`` again.

    How to reach the store may be said anew: there ``now`` wins where it is not at the default. What shapes
    the tree is the recipe's alone, for ``now`` may speak of a view upon it. Raises SettingsError where the
    index does not tell what it was made from, or that is gone, or may not be done here.
    """
    known = {name: text for name, text in recipe.items() if name in ALL_OPTIONS}
    if not now.store.local_files:
        known = _of_anybody(known, place)
    # An index keeps what it was made with, before there were ranges, too.
    recorded = compose({name: parse_value(name, text, place, ranged=False) for name, text in known.items()})
    settings = _merged(recorded, now)
    uris = json.loads(recipe.get(SOURCES, "[]"))
    listed = settings.source.manifest, settings.source.objects
    if not uris and listed == (None, None):
        raise SettingsError(
            f"{place} does not say what it was made from", "build it again: ossmount index build"
        )
    if any(name is not None and is_standard_input(name) for name in listed):
        raise SettingsError(
            f"{place} was made from standard input or a pipe, which cannot be read again",
            "build or mount it again",
        )
    return uris, settings


def _of_anybody(known: Mapping[str, str], place: str) -> dict[str, str]:
    """What is done of a recipe where no local files may be opened: an index in a store may be anybody's.

    It runs no program, and credentials are this mount's own. Raises SettingsError.
    """
    if "manifest_parser" in known:
        raise SettingsError(
            f"{place} was made with --manifest-parser, and no such program may run here",
            "refresh it where it was made: ossmount index refresh",
        )
    return {name: text for name, text in known.items() if name not in _IDENTITIES}


def _told(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Options that are not at their defaults, by name."""
    for section in SECTIONS.keys() - _ELSEWHERE:
        values = getattr(settings, section)
        for field in dataclasses.fields(values):
            value = getattr(values, field.name)
            if value != field.default and field.name not in _NOT_RECORDED:
                yield field.name, value


def _merged(recorded: Settings, now: Settings) -> Settings:
    """``now``, with recorded values but for what ``now`` says of the store."""
    merged = now
    for section in SECTIONS.keys() - _ELSEWHERE:
        before, values = getattr(recorded, section), getattr(now, section)
        taken = {
            field.name: getattr(before, field.name)
            for field in dataclasses.fields(values)
            if field.name not in _NOT_RECORDED
            and (section != "store" or getattr(values, field.name) == field.default)
        }
        merged = replace(merged, **{section: replace(values, **taken)})
    return merged


def _text(name: str, value: Any) -> str:
    if name in _LISTS and is_standard_input(value):
        return STANDARD_INPUT  # where it was kept meanwhile is nowhere
    if name == "label_from" and value.startswith(_TABLE):
        file, hash_sign, columns = value.removeprefix(_TABLE).partition("#")
        return f"{_TABLE}{_place(file)}{hash_sign}{columns}"
    return _place(str(value)) if name in _PLACES else str(value)


def _place(text: str) -> str:
    """Local paths made absolute; URLs without user, password and query, which may be secrets."""
    name, equals, named = text.partition("=")
    if equals and "/" not in name and ":" not in name and is_missing(text):
        return f"{name}={_place(named)}"
    if not is_uri(text):
        return absolute_place(text)
    parts = urlsplit(text)
    if parts.scheme.lower() not in HTTP_SCHEMES:
        return text
    return urlunsplit(parts._replace(query="", fragment="", netloc=parts.netloc.rpartition("@")[2]))


def absolute_place(text: str) -> str:
    """A local path made absolute, with the slash at its end if it has one; a URI as it is."""
    if is_uri(text):
        return text
    slash = "/" if text.endswith("/") else ""
    return str(Path(text).absolute()) + slash
