"""An index as an artefact in a store: pushed once, pulled by every host, never listed again.

Form, version 1 (docs/index-artefact.md): the object at the URI is a small JSON document, the pointer, that
names the parts of the index file; each part is compressed by itself and stored under the SHA-256 of its
compressed bytes in ``<URI>.parts/``. So parts can be pushed and pulled in any order and resumed, equal parts
of two generations are stored once, and putting the pointer, last, publishes the whole in one step.

What may live here: the form, push and pull. Who may touch it: whoever changes the form, and then raises
``ARTEFACT_FORMAT``. Runs outside the supervisor: stores are opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import zstandard

from ossmount import index
from ossmount.app.pruning import UNUSED_SECONDS, note_use, remove_older, remove_parts
from ossmount.app.pull_lock import pulling_alone
from ossmount.config import Settings
from ossmount.errors import AccessDenied, IndexDamaged, IndexFileError, ObjectMissing, SettingsError
from ossmount.json_text import read_json
from ossmount.model import IndexInfo, ObjectId, Progress
from ossmount.protocols import ObjectStore, Report
from ossmount.stores import StorePool
from ossmount.uris import is_uri, join_uri, parse_uri

if TYPE_CHECKING:
    from ossmount.stores.uploading import ObjectUploader

ARTEFACT_FORMAT = 1
KIND = "ossmount-index"

PART_BYTES = 16 << 20
"""Of the index file, before compression: large enough for the bandwidth of one connection, small enough
that eight in memory are no burden and a broken transfer loses little."""

LEVEL = 3
"""zstd's default: an index of ETags hardly shrinks more at higher ones."""

AT_ONCE = 8
"""Parts under way: 16 MiB each saturate a fast network from eight connections (FACTS, HTTP)."""

POINTER_LIMIT = 16 << 20
"""Bytes of a pointer: 100,000 parts, an index of a TiB. A larger object is something else."""

PART_LIMIT = 256 << 20
"""Bytes of a part, in case a later version makes larger ones."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHECKSUM = re.compile(r"xxh3-128:[0-9a-f]{32}")

STALE_SECONDS = 7 * 86400.0
"""Parts of pulls that were never resumed are removed after a week."""

T = TypeVar("T")
R = TypeVar("R")


class Part(NamedTuple):
    """One part: digest and length of its compressed bytes, and its length in the index file."""

    sha256: str
    stored: int
    length: int


@dataclass(frozen=True, slots=True)
class Pointer:
    """What the object at the artefact's URI says."""

    checksum: str
    size: int
    parts: tuple[Part, ...]
    source: str = ""
    files: int = 0
    generation: int = 0
    kind: str = KIND
    format: int = ARTEFACT_FORMAT

    def encode(self) -> bytes:
        """JSON."""
        fields = asdict(self) | {"parts": [part._asdict() for part in self.parts]}
        return json.dumps(fields, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes, uri: str) -> Pointer:
        """Raises IndexDamaged, IndexFileError."""
        try:
            return _parse_pointer(read_json(data), uri)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IndexDamaged(f"{uri} is not an index that was pushed", "push it again") from error


def _parse_pointer(fields: dict[str, Any], uri: str) -> Pointer:
    """Raises ValueError and its like for what is no pointer; nothing of it is believed unseen."""
    if fields["kind"] != KIND:
        raise ValueError(fields["kind"])
    if fields["format"] != ARTEFACT_FORMAT:
        raise IndexFileError(
            f"{uri} has artefact format {fields['format']}, this version reads {ARTEFACT_FORMAT}",
            "push it again, or use another version of ossmount",
        )
    parts = tuple(
        Part(part["sha256"], int(part["stored"]), int(part["length"])) for part in fields.pop("parts")
    )
    pointer = Pointer(parts=parts, **fields)
    whole = pointer.size == sum(part.length for part in parts) > 0
    if not whole or not all(map(_plausible, parts)) or _CHECKSUM.fullmatch(pointer.checksum) is None:
        raise ValueError(pointer)
    return pointer


def _plausible(part: Part) -> bool:
    """Digests become names of files and keys; lengths become memory."""
    sizes = 0 < part.length <= PART_LIMIT and 0 < part.stored <= PART_LIMIT
    return sizes and _SHA256.fullmatch(part.sha256) is not None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did. ``stored_bytes`` is what the artefact takes, ``sent_bytes`` what was missing of it."""

    uri: str
    checksum: str
    index_bytes: int
    stored_bytes: int
    sent_bytes: int
    parts: int
    removed: int = 0
    """Parts of older generations that were removed."""


def is_artefact(uri: str) -> bool:
    """Whether ``uri`` names an index in a store."""
    return uri.endswith(".ossidx") and is_uri(uri)


def push_index(path: Path, uri: str, settings: Settings, report: Report, *, prune: bool = False) -> Pushed:
    """Publishes the index at ``path`` as ``uri``. Parts that are there already are not sent again.

    ``prune``: parts that neither this index nor the one that it replaces has are removed, but for young ones.

    Raises IndexFileError (a damaged index is not published), SettingsError, StoreError.
    """
    root, key = _place(uri)
    with index.open_index(path) as opened:
        opened.verify()
        info = opened.info()
    from ossmount.stores.uploading import open_uploader  # every SDK: a mount loads only its own

    pool, uploader = StorePool(settings.store), open_uploader(root, settings.store)
    try:
        sending = _Sending(pool(root), uploader, f"{key}.parts/")
        size = path.stat().st_size
        parts, done, sent_bytes = [], 0, 0
        for part, sent in _at_once(sending.send, _pieces(path)):
            parts.append(part)
            done += part.length
            sent_bytes += sent
            report(Progress("pushing", done, size, "bytes"))
        if done != size or index.checksum_of(path) != info.checksum:
            raise IndexFileError(f"{path} was replaced while it was pushed", "push it again")
        pointer = Pointer(info.checksum, size, tuple(parts), info.source, info.files, info.generation)
        keep = {sending.key(part) for part in (*parts, *_replaced(uri, pool))} if prune else set()
        uploader.put(key, pointer.encode())
        removed = remove_parts(pool(root), uploader, sending.prefix, keep) if prune else 0
    finally:
        uploader.close()
        pool.close()
    stored = sum(part.stored for part in parts)
    return Pushed(uri, info.checksum, size, stored, sent_bytes, len(parts), removed)


def _replaced(uri: str, pool: StorePool) -> tuple[Part, ...]:
    """The parts of what is published at ``uri`` now: hosts may be pulling it."""
    with suppress(IndexFileError):
        return read_pointer(uri, pool).parts
    return ()


class _Sending:
    """Compresses and puts parts, several at once."""

    def __init__(self, store: ObjectStore, uploader: ObjectUploader, prefix: str) -> None:
        self._store, self._uploader, self.prefix = store, uploader, prefix

    def key(self, part: Part) -> str:
        return self.prefix + part.sha256

    def send(self, piece: bytes) -> tuple[Part, int]:
        """The part that ``piece`` is, and how many of its bytes were missing and are sent."""
        data = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(piece)
        part = Part(hashlib.sha256(data).hexdigest(), len(data), len(piece))
        key = self.key(part)
        if self._is_there(key, len(data)):
            return part, 0
        self._uploader.put(key, data)
        return part, len(data)

    def _is_there(self, key: str, size: int) -> bool:
        try:
            return self._store.head(key).size == size
        except (ObjectMissing, AccessDenied):  # S3 answers 403 to whoever may not list
            return False


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(PART_BYTES), b"")


def _at_once(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in order, at most ``AT_ONCE`` under way, so that memory stays bounded."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: list[Any] = []
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == AT_ONCE:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def read_pointer(uri: str, pool: StorePool) -> Pointer:
    """The pointer at ``uri``. Raises IndexFileError, IndexDamaged, StoreError."""
    root, key = _place(uri)
    store = pool(root)
    try:
        found = store.head(key)
    except ObjectMissing as error:
        raise IndexFileError(
            f"no index at {uri}", "check the URI, or push one: ossmount index push"
        ) from error
    if found.size > POINTER_LIMIT:
        raise IndexDamaged(f"{uri} is not an index that was pushed", "use 'ossmount index push'")
    return Pointer.decode(store.get_range(ObjectId(root, key, found.etag, found.size), 0, found.size), uri)


def pull_index(uri: str, path: Path, settings: Settings, report: Report, parts: Path) -> IndexInfo:
    """Puts the index that was pushed as ``uri`` at ``path``, complete and verified, or leaves it as it was.

    Parts wait in the directory ``parts`` until all are there: a pull that broke off goes on with them.
    Raises IndexFileError, IndexDamaged, StoreError, CacheError.
    """
    pool = StorePool(settings.store)
    try:
        return _pull(uri, read_pointer(uri, pool), path, pool, report, parts)
    finally:
        pool.close()


def pulled_index(uri: str, directory: Path, settings: Settings, report: Report, parts: Path) -> Path:
    """Where the artefact ``uri`` lies below ``directory``; pulled unless it is there already."""
    pool = StorePool(settings.store)
    try:
        pointer = read_pointer(uri, pool)
        path = directory / f"pulled-{pointer.checksum.partition(':')[2]}.ossidx"
        if _has(path, pointer):
            note_use(path)
            return path
        _pull(uri, pointer, path, pool, report, parts)
        remove_older(directory, "pulled-*.ossidx", UNUSED_SECONDS)
        return path
    finally:
        pool.close()


def _pull(uri: str, pointer: Pointer, path: Path, pool: StorePool, report: Report, parts: Path) -> IndexInfo:
    root, key = _place(uri)
    fetching = _Fetching(pool(root), f"{key}.parts/", parts, uri)
    with pulling_alone(uri, parts, report):
        if _has(path, pointer):
            with suppress(IndexFileError):
                return _verified(path, pointer, uri)
        remove_older(parts, "*", STALE_SECONDS)
        with index.reserved(path) as beside:
            _assemble(beside, uri, pointer, fetching, report)
            info = _verified(beside, pointer, uri)
            beside.replace(path)
        for part in pointer.parts:
            (parts / part.sha256).unlink(missing_ok=True)
    return info


def _assemble(path: Path, uri: str, pointer: Pointer, fetching: _Fetching, report: Report) -> None:
    done = 0
    with path.open("xb") as file:
        for part, name in zip(pointer.parts, _at_once(fetching.fetch, pointer.parts), strict=True):
            try:
                piece = _unpacked(name, part, uri)
            except FileNotFoundError:  # another pull that has it in common has ended
                piece = _unpacked(fetching.fetch(part), part, uri)
            file.write(piece)
            done += part.length
            report(Progress("pulling", done, pointer.size, "bytes"))
        file.flush()
        os.fsync(file.fileno())


def _has(path: Path, pointer: Pointer) -> bool:
    """Whether the index is at ``path``: a refreshed mount replaces its own, whatever that is named."""
    with suppress(IndexFileError):
        return index.checksum_of(path) == pointer.checksum
    return False


class _Fetching:
    """Gets parts, several at once, and keeps them as files until the index is complete."""

    def __init__(self, store: ObjectStore, prefix: str, folder: Path, uri: str) -> None:
        self._store, self._prefix, self._folder, self._uri = store, prefix, folder, uri

    def fetch(self, part: Part) -> Path:
        path = self._folder / part.sha256
        if path.exists() and path.stat().st_size == part.stored:
            return path  # verified once more when it is unpacked
        target = ObjectId(self._store.uri, self._prefix + part.sha256, "", part.stored)
        try:
            data = self._store.get_range(target, 0, part.stored)
        except ObjectMissing as error:
            raise IndexDamaged(f"{self._uri}: part {part.sha256} is gone", "push it again") from error
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise IndexDamaged(f"{self._uri}: part {part.sha256} does not have its checksum", "push it again")
        beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            beside.write_bytes(data)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return path


def _unpacked(path: Path, part: Part, uri: str) -> bytes:
    """The bytes of a part. One that is damaged is removed, so that it is fetched again."""
    data = path.read_bytes()
    piece = b""
    with suppress(zstandard.ZstdError):
        if hashlib.sha256(data).hexdigest() == part.sha256:
            piece = bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=part.length))
    if len(piece) != part.length:
        path.unlink(missing_ok=True)
        raise IndexDamaged(f"{uri}: part {part.sha256} is damaged", "pull again, or push it again")
    return piece


def _verified(path: Path, pointer: Pointer, uri: str) -> IndexInfo:
    with index.open_index(path) as opened:
        opened.verify()
        info = opened.info()
    if info.checksum != pointer.checksum:
        raise IndexDamaged(f"{uri} does not hold the index that it says", "push it again")
    return info


def _place(uri: str) -> tuple[str, str]:
    root, key = parse_uri(uri)
    if not key or key.endswith("/"):
        raise SettingsError(f"{uri!r} names no object", f"write {join_uri(root, key)}train.ossidx")
    return root, key
