"""Where a bucket's objects are, found out once for many processes.

boto3 alone knows how settings, variables and profiles become a URL, and it takes 16 MB and a tenth of a
second to say so. A mount asks it in one process that ends, and its workers start with the answer. What may
live here: the answer and who gives it; no SDK. Credentials are no part of it: they expire.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable


class Address(NamedTuple):
    """``url`` of the keys without a trailing slash, region to sign for, file of CA certificates or None."""

    url: str
    region: str
    ca: str | None


@runtime_checkable
class Resolving(Protocol):
    """A store that can tell its address, and can be told."""

    def address(self) -> Address:
        """Asks AWS for the bucket's region where nobody names one. Raises StoreError, SettingsError."""
        ...

    def use_address(self, address: Address) -> None:
        """Takes ``address`` for what :meth:`address` would say."""
        ...
