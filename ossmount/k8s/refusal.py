"""How a call is refused: a status code of the CSI specification and one line without secrets.

What may live here: the exception and the table from our errors to codes. Who may touch it: whoever adds an
error to :mod:`ossmount.errors` that a mount can end with.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from ossmount import errors


class Code(StrEnum):
    """The gRPC codes that the specification asks for, by the names that gRPC gives them."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class Refusal(Exception):
    """A call that is not done. ``message`` is shown in the events of a Pod: it must hold no secrets."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


_CODES: tuple[tuple[type[errors.OssmountError], Code], ...] = (
    (errors.SettingsError, Code.INVALID_ARGUMENT),
    (errors.EmptySource, Code.NOT_FOUND),
    (errors.SourceError, Code.INVALID_ARGUMENT),
    (errors.BucketMissing, Code.NOT_FOUND),
    (errors.ObjectMissing, Code.NOT_FOUND),
    (errors.AccessDenied, Code.PERMISSION_DENIED),
    (errors.StoreUnavailable, Code.UNAVAILABLE),
    (errors.DeadlineExceeded, Code.UNAVAILABLE),
    (errors.NameRefused, Code.INVALID_ARGUMENT),
    (errors.CacheError, Code.RESOURCE_EXHAUSTED),
    (errors.RuntimeUnusable, Code.RESOURCE_EXHAUSTED),
)
"""The first that fits counts. What is not here is INTERNAL: nothing the caller can change."""

SHORTEST_SECRET = 4
"""Shorter values are not looked for: they would turn every other word into stars, and protect nothing."""


MESSAGE_BYTES = 2000
"""Longest message of a refusal. gRPC sends it as a header, in which a byte takes up to three (%C3), and drops
headers of more than 8 KiB: the caller would see RESOURCE_EXHAUSTED and no word of ours."""


def code_of(error: errors.OssmountError, authenticated: bool) -> Code:
    """The code for a mount that ended with ``error``; ``authenticated``: its volume carried credentials.

    Specification, Error Scheme: UNAUTHENTICATED where the call carries no valid secrets,
    PERMISSION_DENIED where those it carries are not allowed.
    """
    if isinstance(error, errors.AccessDenied) and not authenticated:
        return Code.UNAUTHENTICATED
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)


def shown(message: str) -> str:
    """``message`` on one line of at most MESSAGE_BYTES that is UTF-8; names of objects hold anything."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return line.encode()[:MESSAGE_BYTES].decode(errors="ignore")


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every secret in it replaced, whoever put it there."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text
