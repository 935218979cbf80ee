"""Which bytes of an object an answer says it holds (RFC 9110, section 14.4).

What may live here: this one comparison, for every store that speaks HTTP and is shown the field.
"""

from __future__ import annotations

from ossmount.errors import StoreUnavailable


def names_bytes(content_range: str | None, start: int, length: int) -> bool:
    """Whether ``content_range`` is that of ``length`` bytes from ``start`` on. A server owes the field with
    every 206; one that leaves it out is believed, as one that leaves out the entity tag is.
    """
    if not content_range:
        return True
    return content_range.partition("/")[0].lower().split() == ["bytes", f"{start}-{start + length - 1}"]


def check_range(content_range: str | None, start: int, length: int, subject: str) -> None:
    """Raises StoreUnavailable where a 206 of ``subject`` does not name those bytes."""
    if not names_bytes(content_range, start, length):
        raise StoreUnavailable(
            f"{subject}: other bytes came than were asked for ({content_range})",
            "look at proxies and caches on the way; the read is repeated",
        )
