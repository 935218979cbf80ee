"""Names: from any key component to a unique, valid POSIX name, and back.

What may live here: pure functions on bytes. Who may touch it: whoever changes SEMANTICS "Names" in the
same breath, because these names are what users' scripts hold on to.

Tokens, all of which begin with ``%``:

=========== ====================================================================
``%00``     a NUL byte
``%25``     a ``%`` that would otherwise begin one of these tokens
``%2E``     a dot, of the names ``.`` and ``..`` only
``%empty``  the empty name (``a//b``)
``%file``   an object beside a directory of the same name
``%dup-H``  one of several different objects of one path; H is 8, 16 or 32 hex digits of its identity
``%long-H`` a name cut because it had more than 255 bytes; H is a hash of all of it
=========== ====================================================================

A ``%`` that begins no token stays as it is, so ``100%.jpg`` and ``a%20b`` keep their names. ``%file``,
``%dup-`` and ``%long-`` stand before the extension, because ImageFolder chooses files by extension.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from ossmount.model import NAME_MAX

FILE_TOKEN = b"%file"
_EMPTY = b"%empty"
_DUPLICATE = b"%dup-"
_LONG = b"%long-"

_LOOKS_LIKE_TOKEN = re.compile(rb"%(?=00|25|2E|empty|file|dup-|long-)")
_SUFFIX = re.compile(rb"%(?:file|dup-(?:[0-9a-f]{32}|[0-9a-f]{16}|[0-9a-f]{8}))")
_ENCODED = re.compile(rb"%(?:00|25|2E)")
_DECODED = {b"%00": b"\0", b"%25": b"%", b"%2E": b"."}
_WHOLE = {b"": _EMPTY, b".": b"%2E", b"..": b"%2E%2E"}

EXTENSION_MAX = 16
"""Longest extension that is kept behind a token, in bytes with its dot; longer ones are no extensions."""

_LONG_DIGITS = 32
"""Hex digits of the hash of a name that was cut: 128 bits, so two names never meet."""


def is_impossible(component: bytes) -> bool:
    """True where the kernel could not take ``component`` as a name (empty, dots, NUL, > 255 bytes)."""
    return component in _WHOLE or len(component) > NAME_MAX or b"\0" in component


def is_plain(component: bytes) -> bool:
    """True where the component is its own name."""
    return not is_impossible(component) and _LOOKS_LIKE_TOKEN.search(component) is None


def escape(component: bytes) -> bytes:
    """The component's text with tokens for what cannot stand in a name; may be longer than a name."""
    whole = _WHOLE.get(component)
    if whole is not None:
        return whole
    return _LOOKS_LIKE_TOKEN.sub(b"%25", component).replace(b"\0", b"%00")


def unescape(name: bytes) -> bytes | None:
    """The component that ``name`` stands for; None where only the index knows (``%long-``)."""
    if _LONG in name:
        return None
    bare = _SUFFIX.sub(b"", name)
    if bare == _EMPTY:
        return b""
    return _ENCODED.sub(lambda match: _DECODED[match[0]], bare)


def beside_directory(component: bytes) -> bytes:
    """What an object is called beside a directory of the same name."""
    return fit(with_token(escape(component), FILE_TOKEN))


def with_token(name: bytes, token: bytes) -> bytes:
    """``name`` with ``token`` before its extension."""
    stem, extension = _split_extension(name)
    return stem + token + extension


def duplicate_token(identity: bytes, digits: int) -> bytes:
    """The token that tells one of several objects of one path by its ``identity``."""
    return _DUPLICATE + blake2b(identity, digest_size=16).hexdigest()[:digits].encode()


def fit(name: bytes) -> bytes:
    """``name`` itself, or where it has more than 255 bytes its beginning with a hash of all of it."""
    if len(name) <= NAME_MAX:
        return name
    token = _LONG + blake2b(name, digest_size=_LONG_DIGITS // 2).hexdigest().encode()
    stem, extension = _split_extension(name)
    return _cut(stem, NAME_MAX - len(token) - len(extension)) + token + extension


def why(component: bytes) -> str:
    """The reason for which ``component`` is not its own name, for the report."""
    if component == b"":
        return "empty name"
    if component in _WHOLE:
        return "'.' and '..' cannot be names"
    if b"\0" in component:
        return "NUL byte"
    if len(component) > NAME_MAX:
        return f"name of {len(component)} bytes, the limit is {NAME_MAX}"
    return "looks like an escape"


def _split_extension(name: bytes) -> tuple[bytes, bytes]:
    dot = name.rfind(b".")
    if dot <= 0 or len(name) - dot > EXTENSION_MAX:
        return name, b""
    return name[:dot], name[dot:]


def _cut(text: bytes, limit: int) -> bytes:
    """At most ``limit`` bytes, not ending inside a UTF-8 sequence."""
    cut = limit
    while cut > limit - 4 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    if text[cut] & 0xC0 == 0x80:  # not UTF-8 anyway
        cut = limit
    return text[:cut]
