"""Settings: one frozen dataclass per room, and the one table of options behind flags, variables and TOML.

A field of a settings class *is* an option: its name gives the flag (``cache_size`` → ``--cache-size``),
the environment variable (``OSSMOUNT_CACHE_SIZE``) and the TOML key (``cache-size``), its metadata the
help, the parser and the choices. Later wins: default < TOML < environment < ``-o``/flag. A room receives
its own part only. This module parses text; the entrances read argv, environment and files.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ossmount.errors import SettingsError
from ossmount.ranges import check_range

ENVIRONMENT_PREFIX = "OSSMOUNT_"

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtKMGT]?)(?:i?[bB])?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_MODE = re.compile(r"(?:0o)?0*([0-7]{1,3})")
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Bytes from ``4096``, ``64K``, ``1.5G`` (powers of 1024). Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 64K, 512M or 50G")
    return int(float(match[1]) * _SCALE[match[2].lower()])


def parse_duration(text: str) -> float:
    """Seconds from ``20ms``, ``1.5``, ``30s``, ``10m``, ``2h``. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 500ms, 30s or 10m")
    return float(match[1]) * _SECONDS[match[2]]


def _number(convert: Callable[[str], Any], text: str) -> Any:
    """What ``convert`` reads. Raises ValueError, without its talk of literals and bases."""
    try:
        return convert(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


parse_count = partial(_number, int)
parse_rate = partial(_number, float)


def parse_mode(text: str) -> int:
    """Permission bits from octal text (``0444``). Raises ValueError."""
    match = _MODE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a mode between 0000 and 0777")
    return int(match[1], 8)


def parse_bool(text: str) -> bool:
    """``true/yes/on/1`` or ``false/no/off/0``. Raises ValueError."""
    word = text.strip().lower()
    if word in {"", "1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


@dataclass(frozen=True, slots=True)
class Option:
    """How one field appears to a user."""

    help: str
    parse: Callable[[str], Any] = str
    metavar: str = ""
    choices: tuple[str, ...] = ()

    @property
    def takes_words(self) -> bool:
        """Whether the text is any words, with commas between them."""
        return self.metavar.endswith(",...") and "=" not in self.metavar


def option(
    default: Any,
    help: str,  # noqa: A002 - the word that argparse uses
    parse: Callable[[str], Any] = str,
    metavar: str = "",
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that is an option."""
    return dataclasses.field(default=default, metadata={"option": Option(help, parse, metavar, choices)})


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How to reach stores. Credentials themselves stay with boto3, oss2 and their files."""

    endpoint_url: str | None = option(None, "URL of an S3 compatible or OSS endpoint", metavar="URL")
    region: str | None = option(None, "region of the bucket", metavar="NAME")
    profile: str | None = option(None, "profile of the AWS configuration files", metavar="NAME")
    no_sign_request: bool = option(False, "send unsigned requests (public buckets)", parse_bool)
    addressing_style: str = option(
        "auto", "where the bucket stands in the URL", choices=("auto", "path", "virtual")
    )
    requester_pays: bool = option(False, "agree to pay for requests and transfer", parse_bool)
    transport: str = option(
        "native",
        "who performs GET and long LIST: the native client or the vendor's SDK",
        choices=("native", "sdk"),
    )
    credentials_file: str | None = option(
        None,
        "JSON file with AccessKeyId, AccessKeySecret, SecurityToken, Expiration (OSS)",
        metavar="FILE",
    )
    ecs_ram_role: str | None = option(
        None, "RAM role of this ECS instance to take OSS credentials from", metavar="ROLE"
    )
    oss_signature: str = option("v4", "signature version for OSS", choices=("v1", "v4"))
    oss_internal: bool = option(False, "use the region's internal OSS endpoint", parse_bool)
    oss_cname: bool = option(False, "the endpoint is a custom domain bound to the bucket", parse_bool)
    local_files: bool = option(True, "open file:// URIs and local paths", parse_bool)
    retries: int = option(5, "how often a failed request is repeated", parse_count, "N")
    connect_timeout: float = option(10.0, "time to make a connection", parse_duration, "TIME")
    request_timeout: float = option(60.0, "time for one request", parse_duration, "TIME")
    max_bandwidth: int = option(
        0, "most bytes a second that a mount asks the store for; 0: no limit", parse_size, "SIZE"
    )
    max_request_rate: float = option(0.0, "most requests a second of a mount; 0: no limit", parse_rate, "N")

    @property
    def plain_endpoint(self) -> bool:
        """Whether the endpoint is told, and without TLS."""
        return (self.endpoint_url or "").startswith("http://")


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What to mount beyond the source URI itself."""

    manifest: str | None = option(
        None, "mount the objects that this file or object lists", metavar="FILE|URI"
    )
    objects: str | None = option(
        None, "mount the complete URIs that this file ('-': standard input) lists", metavar="FILE"
    )
    base_uri: str | None = option(None, "URI that relative paths of a manifest belong to", metavar="URI")
    columns: str | None = option(
        None, "which columns of a table to read, like key=path,label=category,size=bytes", metavar="MAP"
    )
    manifest_parser: str | None = option(
        None,
        "Python function that yields (uri, label) from the manifest, opened in binary",
        metavar="MODULE:FUNCTION",
    )
    label_from: str | None = option(
        None,
        "where labels come from: the directory's name, a JSON object beside each file, or a table",
        metavar="parent|sidecar:PATTERN:JMESPATH|table:FILE[#COLUMNS]",
    )
    on_missing: str = option(
        "error", "listed objects that do not exist: an error, or left out", choices=("error", "skip")
    )
    size_concurrency: int = option(64, "HEAD requests at once while sizes are fetched", parse_count, "N")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How the tree is made and where the index lives."""

    index: str | None = option(None, "index file to mount, or to build where it is missing", metavar="PATH")
    layout: str = option(
        "keys", "the tree of the keys, or one directory per label", choices=("keys", "labels")
    )
    unlabelled: str = option(
        "keep",
        "entries without a label under --layout labels: under _unlabelled/, or skipped",
        choices=("keep", "skip"),
    )
    on_bad_key: str = option("escape", "keys that cannot be file names", choices=("escape", "skip", "fail"))
    rebuild: bool = option(False, "build the index anew even where one is kept", parse_bool)


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """Which files of an index are shown, and where; see docs/views.md."""

    view: str | None = option(None, "a view made with 'ossmount view create'", metavar="NAME|FILE")
    include: str | None = option(None, "show only files that match one of these globs", metavar="GLOB,...")
    exclude: str | None = option(None, "leave out files that match one of these globs", metavar="GLOB,...")
    label: str | None = option(None, "show only files with one of these labels", metavar="LABEL,...")
    suffix: str | None = option(
        None, "show only files whose names end so, like .jpg,.png", metavar="SUFFIX,..."
    )
    min_size: int | None = option(None, "show only files of at least this size", parse_size, "SIZE")
    max_size: int | None = option(None, "show only files of at most this size", parse_size, "SIZE")
    split: str | None = option(
        None, "put each file under one of these directories, like train=0.9,val=0.1", metavar="NAME=SHARE,..."
    )
    seed: int = option(0, "another seed gives another split and other shards", parse_count, "N")
    shard: str | None = option(None, "show only shard K of N (from 0)", metavar="K/N")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Memory and disk block cache. ``cache_dir`` also holds the indexes that mount keeps."""

    cache_dir: str | None = option(
        None,
        "directory of cached blocks and kept indexes (default: $XDG_CACHE_HOME/ossmount)",
        metavar="DIR",
    )
    cache_size: int = option(10 << 30, "hard limit of the disk cache; 0 turns it off", parse_size, "SIZE")
    memory_cache: int = option(
        16 << 20,
        "block cache in each worker's memory (64M at least where no prefetcher reads ahead)",
        parse_size,
        "SIZE",
    )


@dataclass(frozen=True, slots=True)
class ReadaheadSettings:
    """Windows, limits and deadlines of fetching."""

    readahead: str = option(
        "auto",
        "how far to read ahead of the program",
        choices=("auto", "file", "directory", "dataset", "off"),
    )
    small_file: int = option(4 << 20, "files up to this size are fetched with one GET", parse_size, "SIZE")
    part_size: int = option(8 << 20, "largest part of a large file per GET", parse_size, "SIZE")
    block_size: int = option(1 << 20, "block of a large file in the cache", parse_size, "SIZE")
    max_requests: int = option(128, "requests in flight in each process", parse_count, "N")
    max_bytes: int = option(128 << 20, "bytes in flight in each process", parse_size, "SIZE")
    prefetchers: int = option(2, "processes that fetch ahead", parse_count, "N")
    read_deadline: float = option(120.0, "a read is answered within this time", parse_duration, "TIME")
    push: bool = option(True, "push fetched files into the kernel's page cache", parse_bool)


@dataclass(frozen=True, slots=True)
class MountSettings:
    """The kernel's side of a mount."""

    workers: int = option(2, "processes that answer the kernel", parse_count, "N")
    uid: int | None = option(None, "owner of every file (default: who mounts)", parse_count, "UID")
    gid: int | None = option(None, "group of every file", parse_count, "GID")
    file_mode: int = option(0o444, "permission bits of files", parse_mode, "MODE")
    dir_mode: int = option(0o555, "permission bits of directories", parse_mode, "MODE")
    allow_other: bool = option(False, "let other users read the mount", parse_bool)
    attr_timeout: float = option(
        31536000.0, "how long the kernel may keep names and attributes", parse_duration, "TIME"
    )
    kernel_read_ahead: int = option(
        1 << 20, "read-ahead window of the kernel (needs root)", parse_size, "SIZE"
    )
    max_background: int = option(512, "requests the kernel keeps outstanding", parse_count, "N")
    ask_opens: str = option(
        "auto",
        "when the kernel asks the mount before it opens a file; auto: until programs only read again"
        " what they have read",
        choices=("auto", "always"),
    )
    refresh: float | None = option(
        None, "bring the mount up to date with its source this often", parse_duration, "TIME"
    )
    clean: bool = option(False, "first unmount a dead ossmount mount that is in the way", parse_bool)
    log_level: str = option(
        "info", "least severe message logged", choices=("debug", "info", "warning", "error")
    )
    log_file: str | None = option(None, "file for the daemon's log (default: system log)", metavar="FILE")


@dataclass(frozen=True, slots=True)
class ObservabilitySettings:
    """How a mount can be watched from outside."""

    metrics_listen: str | None = option(
        None, "serve Prometheus metrics at this address, or at this unix socket", metavar="HOST:PORT|PATH"
    )
    log_format: str = option(
        "text", "lines for people, or one JSON object per line", choices=("text", "json")
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All rooms' settings. ``given``: the options that somebody chose, were it what they are by default."""

    store: StoreSettings = StoreSettings()
    source: SourceSettings = SourceSettings()
    index: IndexSettings = IndexSettings()
    view: ViewSettings = ViewSettings()
    cache: CacheSettings = CacheSettings()
    readahead: ReadaheadSettings = ReadaheadSettings()
    mount: MountSettings = MountSettings()
    observability: ObservabilitySettings = ObservabilitySettings()
    given: frozenset[str] = field(default=frozenset(), compare=False)


SECTIONS: dict[str, type] = {
    "store": StoreSettings,
    "source": SourceSettings,
    "index": IndexSettings,
    "view": ViewSettings,
    "cache": CacheSettings,
    "readahead": ReadaheadSettings,
    "mount": MountSettings,
    "observability": ObservabilitySettings,
}


def options_of(section: type) -> dict[str, Option]:
    """The options of one settings class by field name."""
    return {f.name: f.metadata["option"] for f in dataclasses.fields(section)}


ALL_OPTIONS: dict[str, Option] = {
    name: opt for section in SECTIONS.values() for name, opt in options_of(section).items()
}
"""Every option by field name; names are unique across sections (checked by a test)."""


def parse_value(name: str, text: str, origin: str, *, ranged: bool = True) -> Any:
    """The value of option ``name`` from text; ``origin`` says where it stood. Raises SettingsError.

    ``ranged`` False takes what an earlier version may have taken.
    """
    opt = ALL_OPTIONS[name]
    if opt.choices and text not in opt.choices:
        raise SettingsError(f"{origin}: {text!r} is not one of {', '.join(opt.choices)}")
    try:
        value = opt.parse(text)
        if ranged:
            check_range(name, text, value, opt.parse)
    except ValueError as error:
        raise SettingsError(f"{origin}: {error}") from error
    return value


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Values of the ``OSSMOUNT_*`` variables that name an option. Raises SettingsError."""
    return {
        name: parse_value(name, environment[variable], variable)
        for name in ALL_OPTIONS
        if (variable := ENVIRONMENT_PREFIX + name.upper()) in environment
    }


def from_table(table: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Values of a TOML table; unknown keys are errors. Raises SettingsError."""
    values = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in ALL_OPTIONS:
            raise SettingsError(f"{place}: unknown key {key!r}", "see 'ossmount mount --help'")
        values[name] = parse_value(name, _text(name, value, f"{place}: {key}"), f"{place}: {key}")
    return values


def join_words(words: Sequence[str]) -> str:
    """Words with commas between them; ``\\,`` is a comma and ``\\\\`` a backslash."""
    return ",".join(word.replace("\\", "\\\\").replace(",", "\\,") for word in words)


def _text(name: str, value: Any, origin: str) -> str:
    """A value of TOML as the text that another place would have. Raises SettingsError."""
    opt = ALL_OPTIONS[name]
    if opt.parse is parse_mode and not isinstance(value, str):
        # 0o555 comes as 365: TOML does not tell in which base a number was written.
        remedy = f'write octal digits in quotes: {name.replace("_", "-")} = "0555"'
        raise SettingsError(f"{origin}: {value!r} may be of any base", remedy)
    if opt.takes_words and isinstance(value, list) and all(isinstance(word, str) for word in value):
        return join_words(value)
    if isinstance(value, str | bool | int | float):
        if "\0" in str(value):
            raise SettingsError(f"{origin}: {value!r} holds a NUL byte", "no path and no name can")
        return str(value)
    what = "texts in a list" if opt.takes_words else "one value"
    raise SettingsError(f"{origin}: {value!r} is not {what}", "see 'ossmount mount --help'")


def compose(*layers: Mapping[str, Any]) -> Settings:
    """One Settings from layers of values by option name; later layers win."""
    merged = {name: value for layer in layers for name, value in layer.items()}
    return Settings(
        given=frozenset(merged),
        **{
            part: section(**{k: v for k, v in merged.items() if k in options_of(section)})
            for part, section in SECTIONS.items()
        },
    )
