"""What the fourth signature versions of S3 and OSS have in common: scope, key, and the signature itself.

Both hash a canonical request, and sign that hash with a key that is good for one day, region and service.
What may live here: that, as pure functions. What the request and its canonical form are is
:mod:`ossmount.stores.s3_signing`'s and :mod:`ossmount.stores.oss_signing`'s to know.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from typing import NamedTuple


class Dialect(NamedTuple):
    """The words in which the two differ. ``prefix`` stands before the secret, ``ending`` ends the scope."""

    algorithm: str
    prefix: str
    service: str
    ending: str


def moment_of(now: float) -> str:
    """``now``, seconds since 1970, as both write it; the first eight digits are the day."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def scope_of(dialect: Dialect, moment: str, region: str) -> str:
    """What a signature is good for."""
    return f"{moment[:8]}/{region}/{dialect.service}/{dialect.ending}"


def signature_of(dialect: Dialect, secret: str, moment: str, region: str, canonical: str) -> str:
    """The signature of a canonical request, in hexadecimal digits."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{dialect.algorithm}\n{moment}\n{scope_of(dialect, moment, region)}\n{digest}"
    mac = _keyed(dialect, secret, moment[:8], region).copy()
    mac.update(text.encode())
    return mac.hexdigest()


# Keyed hashes are kept and copied: deriving the key anew would double the cost of a signature, and
# hmac.digest() gives up the interpreter lock each time, which costs 40 µs a GET with 16 threads (measured).


@functools.lru_cache(maxsize=16)
def _keyed(dialect: Dialect, secret: str, day: str, region: str) -> hmac.HMAC:
    key = f"{dialect.prefix}{secret}".encode()
    for part in (day, region, dialect.service, dialect.ending):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")
