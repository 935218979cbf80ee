"""Entity tags with and without quotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.stores.etags import is_weak, plain_etag, wire_etag


@pytest.mark.parametrize(
    ("raw", "plain"),
    [('"abc"', "abc"), ('W/"abc"', "W/abc"), ("abc", "abc"), ('"a-2"', "a-2"), ("", ""), (None, "")],
)
def test_plain(raw: str | None, plain: str) -> None:
    assert plain_etag(raw) == plain


@given(st.text(st.characters(min_codepoint=0x23, max_codepoint=0x7E), min_size=1), st.booleans())
def test_there_and_back(opaque: str, weak: bool) -> None:
    raw = f'W/"{opaque}"' if weak else f'"{opaque}"'
    if not weak and opaque.startswith("W/"):
        return  # a strong tag that begins with W/ would need a fourth form; nobody sends one
    assert wire_etag(plain_etag(raw)) == raw
    assert is_weak(plain_etag(raw)) is weak
