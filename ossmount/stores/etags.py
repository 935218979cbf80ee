"""Entity tags as ``ObjectId.etag`` holds them, and as HTTP writes them (RFC 9110, section 8.8.3).

What may live here: this conversion and its check, used by every store that speaks HTTP. Touch it never, or
all kept indexes and cached blocks lose their identity.

``"abc"`` on the wire is ``abc`` inside; the weak ``W/"abc"`` is ``W/abc``. A weak tag is never equal to
anything under If-Match's strong comparison (RFC 9110, section 13.1.1), so it is not sent: the store
compares it with the tag of the answer instead.
"""

from __future__ import annotations

from ossmount.errors import StoreError

_WEAK = "W/"
_LAST_OF_LATIN_1 = "\xff"


def plain_etag(raw: str | None) -> str:
    """The tag without its quotes; "" where there is none."""
    if not raw:
        return ""
    if raw.startswith('W/"'):
        return _WEAK + raw[3:].removesuffix('"')
    return raw.removeprefix('"').removesuffix('"')


def wire_etag(etag: str) -> str:
    """The inverse of :func:`plain_etag` for a tag that is not empty."""
    return f'W/"{etag[2:]}"' if is_weak(etag) else f'"{etag}"'


def if_match(etag: str, subject: str) -> str:
    """:func:`wire_etag` to be sent for ``subject``. Raises StoreError for what no header holds: a list or an
    index may say anything, and clients of HTTP fail at it in ways of their own, obstore by a panic.
    """
    check_sendable(etag, subject)
    return wire_etag(etag)


def check_sendable(identity: str, subject: str) -> None:
    """Raises StoreError where no header holds ``identity``."""
    if not identity.isprintable() or max(identity, default="") > _LAST_OF_LATIN_1:
        raise StoreError(
            f"{subject}: {identity!a} is no entity tag", "correct the list, or refresh the index"
        )


def is_weak(etag: str) -> bool:
    """Whether If-Match can not be asked with this tag."""
    return etag.startswith(_WEAK)
