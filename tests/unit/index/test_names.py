"""Names are unique, valid and lead back to their components."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ossmount.index import names
from ossmount.model import NAME_MAX

TOKENS = [
    b"%",
    b"%00",
    b"%25",
    b"%2E",
    b"%empty",
    b"%file",
    b"%dup-0123abcd",
    b"%long-",
    b".",
    b"\0",
    b"a",
    b"2E",
]
components = st.one_of(
    st.lists(st.sampled_from(TOKENS), max_size=6).map(b"".join),
    st.binary(max_size=300).map(lambda text: text.replace(b"/", b"")),
)


@given(components)
@example(b"")
@example(b".")
@example(b"..")
@example(b"x" * 256)
def test_a_name_is_valid_and_leads_back(component: bytes) -> None:
    name = names.fit(names.escape(component))
    assert not names.is_impossible(name)
    assert b"/" not in name
    if names.is_plain(component):
        assert name == component
    if len(names.escape(component)) <= NAME_MAX:
        assert names.unescape(name) == component
    else:
        assert names.unescape(name) is None


@given(
    components, st.sampled_from([b"%file", names.duplicate_token(b"x", 8), names.duplicate_token(b"y", 32)])
)
def test_a_token_is_taken_off_again(component: bytes, token: bytes) -> None:
    name = names.with_token(names.escape(component), token)
    if len(name) <= NAME_MAX:
        assert names.unescape(name) == component


@given(components, components)
def test_two_components_never_meet(one: bytes, other: bytes) -> None:
    if one != other:
        assert names.fit(names.escape(one)) != names.fit(names.escape(other))


@pytest.mark.parametrize(
    ("component", "name"),
    [
        (b"", b"%empty"),
        (b".", b"%2E"),
        (b"..", b"%2E%2E"),
        (b"%2E", b"%252E"),
        (b"100%.jpg", b"100%.jpg"),
        (b"a%20b", b"a%20b"),
        (b"a\0b", b"a%00b"),
        (b"...", b"..."),
    ],
)
def test_the_documented_names(component: bytes, name: bytes) -> None:
    assert names.fit(names.escape(component)) == name


def test_tokens_stand_before_the_extension() -> None:
    assert names.with_token(b"img.jpg", names.FILE_TOKEN) == b"img%file.jpg"
    assert names.with_token(b".hidden", names.FILE_TOKEN) == b".hidden%file"
    assert names.with_token(b"a.b.jpg", names.FILE_TOKEN) == b"a.b%file.jpg"
    longest = b"." + b"e" * (names.EXTENSION_MAX - 1)
    assert names.with_token(b"a" + longest, names.FILE_TOKEN) == b"a%file" + longest
    assert names.with_token(b"a" + longest + b"e", names.FILE_TOKEN) == b"a" + longest + b"e%file"
    assert names.fit(b"x" * NAME_MAX) == b"x" * NAME_MAX
    long = names.fit(b"x" * 300 + b".jpeg")
    assert len(long) == NAME_MAX
    assert long.endswith(b".jpeg")


def test_a_long_name_is_not_cut_inside_a_character() -> None:
    for character in ("é", "€", "😀"):
        for before in range(4):
            names.fit(b"x" * before + character.encode() * 200).decode()
    assert len(names.fit(b"\xbf" * 300)) == NAME_MAX, "no UTF-8 anyway"


@pytest.mark.parametrize(
    ("component", "reason"),
    [
        (b"", "empty name"),
        (b".", "'.' and '..' cannot be names"),
        (b"a\0", "NUL byte"),
        (b"x" * 256, "name of 256 bytes, the limit is 255"),
        (b"%2E", "looks like an escape"),
    ],
)
def test_every_change_has_a_reason(component: bytes, reason: str) -> None:
    assert not names.is_plain(component)
    assert names.why(component) == reason
