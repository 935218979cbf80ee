"""What a view is, as a small text that can be kept, named and sent to someone else.

What may live here: the description, its checks and its JSON, pure. Who may touch it: whoever adds a
member, which raises VERSION where older programs would otherwise show another tree.

A view shows some of an index's files, perhaps under other paths. Its order of steps is fixed: filters
(labels, sizes, suffixes, globs on the path in the index), the shard, then the layout, then the directory
of the split. Split and shard are decided by a hash of the path in the index and the seed, so a file stays
where it is when others are added or removed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ossmount.config import ViewSettings, join_words
from ossmount.errors import SettingsError
from ossmount.json_text import read_json
from ossmount.sources.globs import compile_globs
from ossmount.sources.labels import label_fault

VERSION = 1
_KIND = "ossmount-view"
_PIECE = re.compile(r"\\[\\,]|.", re.DOTALL)
_SHARE = re.compile(r"[+-]?[0-9./]{1,60}(?:[eE][+-]?[0-9]{1,2})?")
"""A decimal or a fraction; of larger exponents the exact number would fill the memory."""
_SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class ViewDescription:
    """A view. The default shows everything as it is.

    ``splits`` are pairs of name and share, which is a decimal or a fraction as text; shares sum to 1.
    ``shard`` is (k, n) with 0 ≤ k < n. Sizes are bytes, both ends included. Suffixes are compared without
    regard to upper and lower case.
    """

    layout: str = "keys"
    unlabelled: str = "keep"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    min_size: int | None = None
    max_size: int | None = None
    splits: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    shard: tuple[int, int] | None = None

    @property
    def is_identity(self) -> bool:
        """True where the view shows everything as it is; a seed alone changes nothing."""
        return dataclasses.replace(self, seed=0, unlabelled="keep") == ViewDescription()

    def check(self) -> ViewDescription:
        """Itself. Raises SettingsError for what cannot be."""
        if self.layout not in {"keys", "labels"} or self.unlabelled not in {"keep", "skip"}:
            raise SettingsError(f"no layout {self.layout!r} with unlabelled {self.unlabelled!r}")
        for globs, option in ((self.include, "--include"), (self.exclude, "--exclude")):
            if globs:
                compile_globs(globs, option)
        for label in self.label:
            fault = label_fault(label)
            if fault is not None:
                raise SettingsError(f"--label: {fault}", "a label is the name of a directory")
        if any(not suffix or "/" in suffix for suffix in self.suffix):
            raise SettingsError("--suffix: a suffix is empty or contains '/'", "write it like .jpg,.png")
        self._check_sizes()
        check_splits(self.splits)
        if self.shard is not None and not 0 <= self.shard[0] < self.shard[1]:
            raise _bad_shard(f"{self.shard[0]}/{self.shard[1]}")
        return self

    def _check_sizes(self) -> None:
        smallest, largest = self.min_size or 0, self.max_size
        if smallest < 0 or (largest is not None and largest < smallest):
            raise SettingsError(
                f"no file has a size from {smallest} to {largest}", "exchange --min-size and --max-size"
            )

    def to_json(self) -> str:
        """The text that :func:`parse_view` reads: what differs from the default, and the version."""
        default = ViewDescription()
        members: dict[str, Any] = {_KIND: VERSION}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != getattr(default, field.name):
                members[field.name] = dict(value) if field.name == "splits" else value
        return json.dumps(members, indent=2, ensure_ascii=False) + "\n"

    def options(self) -> dict[str, str]:
        """What differs from the default, as texts by option names."""
        texts = {
            "layout": "" if self.layout == "keys" else self.layout,
            "unlabelled": "" if self.unlabelled == "keep" else self.unlabelled,
            "include": join_words(self.include),
            "exclude": join_words(self.exclude),
            "label": join_words(self.label),
            "suffix": join_words(self.suffix),
            "min_size": "" if self.min_size is None else str(self.min_size),
            "max_size": "" if self.max_size is None else str(self.max_size),
            "split": ",".join(f"{name}={share}" for name, share in self.splits),
            "seed": str(self.seed) if self.seed else "",
            "shard": "" if self.shard is None else f"{self.shard[0]}/{self.shard[1]}",
        }
        return {name: text for name, text in texts.items() if text}


def view_of(settings: ViewSettings, layout: str = "keys", unlabelled: str = "keep") -> ViewDescription:
    """The view that options describe; ``settings.view`` is not read here. Raises SettingsError."""
    return ViewDescription(
        layout=layout,
        unlabelled=unlabelled,
        include=split_words(settings.include),
        exclude=split_words(settings.exclude),
        label=split_words(settings.label),
        suffix=split_words(settings.suffix),
        min_size=settings.min_size,
        max_size=settings.max_size,
        splits=parse_splits(settings.split) if settings.split is not None else (),
        seed=settings.seed,
        shard=parse_shard(settings.shard) if settings.shard is not None else None,
    ).check()


def split_words(text: str | None) -> tuple[str, ...]:
    """The texts that :func:`ossmount.config.join_words` put together. None is no text at all."""
    if text is None:
        return ()
    words = [""]
    for piece in _PIECE.findall(text):
        if piece == ",":
            words.append("")
        else:
            words[-1] += piece[-1]
    return tuple(words)


def parse_view(text: str, place: str) -> ViewDescription:
    """The view that ``text`` describes; ``place`` is named in errors. Raises SettingsError."""
    try:
        members = read_json(text)
    except ValueError as error:
        raise SettingsError(
            f"{place} is not a view: {error}", "make one with 'ossmount view create'"
        ) from error
    if not isinstance(members, dict) or _KIND not in members:
        raise SettingsError(f"{place} is not a view", "make one with 'ossmount view create'")
    version = members.pop(_KIND)
    if version != VERSION:
        raise SettingsError(
            f"{place} is a view of version {version}", f"this ossmount reads version {VERSION}"
        )
    unknown = members.keys() - {field.name for field in dataclasses.fields(ViewDescription)}
    if unknown:
        raise SettingsError(f"{place}: unknown member {min(unknown)!r}", "correct its name")
    try:
        return ViewDescription(**{name: _member(name, value) for name, value in members.items()}).check()
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{place}: {error}", "correct the view") from error


def _member(name: str, value: Any) -> Any:
    """A member of the JSON in the form that the description has it. Raises ValueError."""
    if name in {"include", "exclude", "label", "suffix"}:
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return tuple(value)
        raise ValueError(f"{name} is not a list of texts")
    if name == "splits":
        if isinstance(value, dict) and all(isinstance(share, str) for share in value.values()):
            return tuple(value.items())
        raise ValueError('splits is not an object of texts such as {"train": "0.9", "val": "0.1"}')
    if name == "shard":
        if isinstance(value, list) and len(value) == 2 and all(type(part) is int for part in value):
            return tuple(value)
        raise ValueError("shard is not a pair of numbers")
    wanted = str if name in {"layout", "unlabelled"} else int
    if type(value) is not wanted:
        raise ValueError(f"{name} is not a {'text' if wanted is str else 'number'}")
    return value


def parse_splits(text: str) -> tuple[tuple[str, str], ...]:
    """``train=0.9,val=0.1`` as pairs, checked. Raises SettingsError."""
    pairs = []
    for part in text.split(","):
        name, equals, share = (word.strip() for word in part.partition("="))
        if not equals:
            raise _bad_split(f"{part!r} is not NAME=SHARE")
        pairs.append((name, share))
    splits = tuple(pairs)
    check_splits(splits)
    return splits


def check_splits(splits: tuple[tuple[str, str], ...]) -> None:
    """Raises SettingsError unless names are different directory names and shares sum to 1."""
    if not splits:
        return
    names = [name for name, _ in splits]
    for name in names:
        fault = label_fault(name)
        if fault is not None:
            raise _bad_split(fault.replace("the label", "the name"))
        if names.count(name) > 1:
            raise _bad_split(f"{name!r} is there twice")
    total = sum(shares_of(splits))
    if total != 1:
        raise _bad_split(f"the shares sum to {float(total):g}, not to 1")


def shares_of(splits: tuple[tuple[str, str], ...]) -> list[Fraction]:
    """The shares as exact numbers. Raises SettingsError."""
    shares = []
    for name, text in splits:
        try:
            share = Fraction(text if _SHARE.fullmatch(text) else "none")
        except (ValueError, ZeroDivisionError) as error:
            raise _bad_split(f"the share {text!r} of {name!r} is not a number") from error
        if share < 0:
            raise _bad_split(f"the share {text!r} of {name!r} is negative")
        shares.append(share)
    return shares


def parse_shard(text: str) -> tuple[int, int]:
    """``0/4`` as (0, 4). Raises SettingsError."""
    match = _SHARD.fullmatch(text.strip())
    if match is None or not int(match[1]) < int(match[2]):
        raise _bad_shard(text)
    return int(match[1]), int(match[2])


def _bad_split(reason: str) -> SettingsError:
    return SettingsError(f"--split: {reason}", "write it like train=0.9,val=0.1")


def _bad_shard(text: str) -> SettingsError:
    return SettingsError(f"--shard: {text!r} is not K/N with K from 0 to N-1", "write it like 0/4")
