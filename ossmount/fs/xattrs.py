"""Extended attributes: what an inode can tell of its object (SEMANTICS, Attributes). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ossmount.errors import IsADirectory, NoSuchAttribute
from ossmount.model import ROOT_INODE, Extent
from ossmount.protocols import Index
from ossmount.uris import join_uri

PREFIX = b"user.ossmount."


def xattrs_of(index: Index, ino: int) -> Mapping[bytes, Callable[[], bytes]]:
    """The extended attributes of ``ino`` by name; a value is made when it is asked for.

    A directory has none but the root, which tells the source and the generation. ``label`` is there only
    where the file has one. Raises NoSuchEntry.
    """
    if ino == ROOT_INODE:
        info = index.info()
        return _named(source=lambda: info.source.encode(), generation=lambda: b"%d" % info.generation)
    index.attributes(ino)  # says NoSuchEntry before anything else
    try:
        extent = index.extent(ino)
    except IsADirectory:
        return {}
    return _of_file(index, ino, extent)


def xattr_of(index: Index, ino: int, name: bytes) -> bytes:
    """One value. Raises NoSuchAttribute, NoSuchEntry."""
    if not name.startswith(PREFIX):
        # The kernel and ls ask every file for security.* and system.*: answered without a look-up.
        raise NoSuchAttribute(f"no extended attribute {name!r}")
    value = xattrs_of(index, ino).get(name)
    if value is None:
        raise NoSuchAttribute(f"no extended attribute {name!r} of inode {ino}")
    return value()


def _of_file(index: Index, ino: int, extent: Extent) -> Mapping[bytes, Callable[[], bytes]]:
    target, label = extent.object, index.label(ino)
    values = _named(
        uri=lambda: _bytes(join_uri(target.store, target.key)),
        key=lambda: _bytes(target.key),
        etag=lambda: _bytes(target.etag),
        size=lambda: b"%d" % extent.length,
    )
    return values if label is None else values | _named(label=lambda: _bytes(label))


def _named(**values: Callable[[], bytes]) -> dict[bytes, Callable[[], bytes]]:
    return {PREFIX + name.encode(): value for name, value in values.items()}


def _bytes(text: str) -> bytes:
    """Local file names that are not UTF-8 come as surrogates (PEP 383) and go out as they were."""
    return text.encode("utf-8", "surrogateescape")
