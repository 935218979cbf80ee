"""The signature of a GET for S3 as a pure function of request, keys and time (AWS Signature Version 4).

Source: "Authenticating Requests (AWS Signature Version 4)" in the S3 API reference. botocore signs the same
(a test holds the two together) in 40 to 60 µs, as much as all else that a small GET costs; this takes 10.
What may live here: signing. Touch it when AWS changes how it signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ossmount.stores.signing_v4 import Dialect, moment_of, scope_of, signature_of

AWS = Dialect("AWS4-HMAC-SHA256", "AWS4", "s3", "aws4_request")

EMPTY = hashlib.sha256(b"").hexdigest()
"""A GET has no body."""


def signature_lines(
    target: str, lines: Sequence[str], signing: tuple[str, str, str], now: float
) -> list[str]:
    """The header lines that sign a GET of ``target``, path and query as they are sent, with ``lines``.

    ``lines`` are ``Name: value``, that of the host among them; all are signed. ``signing``: region, access
    key, secret key. ``now``: seconds since 1970.
    """
    region, access, secret = signing
    moment = moment_of(now)
    added = [f"X-Amz-Content-SHA256: {EMPTY}", f"X-Amz-Date: {moment}"]
    fields = sorted(_canonical(line) for line in (*lines, *added))
    names = ";".join([name for name, _ in fields])
    path, _, query = target.partition("?")
    canonical = [
        "GET",
        path,
        _canonical_query(query) if query else "",
        *[f"{name}:{value}" for name, value in fields],
        "",
        names,
        EMPTY,
    ]
    signature = signature_of(AWS, secret, moment, region, "\n".join(canonical))
    credential = f"Credential={access}/{scope_of(AWS, moment, region)}"
    return [
        *added,
        f"Authorization: {AWS.algorithm} {credential}, SignedHeaders={names}, Signature={signature}",
    ]


def _canonical(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), " ".join(value.split())


def _canonical_query(query: str) -> str:
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)
