"""Signatures are right by another implementation: botocore's."""

from __future__ import annotations

import datetime

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from ossmount.stores.describing import url_path
from ossmount.stores.s3_signing import signature_lines

NOW = 1_700_000_000.0
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
QUERY = st.lists(st.tuples(st.sampled_from(["versionId", "a", "b-c"]), st.sampled_from(["", "1", "x%20y"])))


def signed_by_botocore(
    target: str, lines: list[str], signing: tuple[str, str, str], now: float
) -> dict[str, str]:
    """The headers that botocore sends, by their names in small letters."""
    region, access, secret = signing
    headers = dict(line.split(": ", 1) for line in lines)
    request = AWSRequest("GET", f"http://{headers['Host']}{target}", headers)
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(tzinfo=None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(botocore.auth, "get_current_datetime", lambda: moment)
        botocore.auth.S3SigV4Auth(Credentials(access, secret), "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    query=QUERY,
    token=VALUE,
    host=st.sampled_from(["h", "h:9000", "[::1]:9000"]),
    region=st.sampled_from(["us-east-1", "eu-west-1"]),
    secret=st.text(min_size=1, max_size=20),
    now=st.integers(0, 4_000_000_000),
)
def test_botocore_signs_the_same(
    key: str, query: list[tuple[str, str]], token: str, host: str, region: str, secret: str, now: int
) -> None:
    arguments = "&".join(f"{name}={value}" for name, value in query)
    target = f"/b/{url_path(key)}" + (f"?{arguments}" if arguments else "")
    lines = [f"Host: {host}", "Range: bytes=0-9", f"x-amz-security-token: {token}", 'If-Match: "e"']
    expected = signed_by_botocore(target, lines, (region, "AK", secret), now)
    added = signature_lines(target, lines, (region, "AK", secret), now)
    assert {name.lower(): value for name, value in (line.split(": ", 1) for line in added)} == {
        name: expected[name] for name in ("x-amz-content-sha256", "x-amz-date", "authorization")
    }


def test_a_day_has_its_own_key() -> None:
    lines = ["Host: h"]
    first, again, later = (
        signature_lines("/b/k", lines, ("r", "AK", "SK"), now)[-1] for now in (NOW, NOW, NOW + 86400)
    )
    assert first == again != later
    assert signed_by_botocore("/b/k", lines, ("r", "AK", "SK"), NOW + 86400)["authorization"] in later
