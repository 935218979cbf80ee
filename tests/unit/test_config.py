"""Option texts, the table of options, and layers of values."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.config import (
    ALL_OPTIONS,
    SECTIONS,
    Settings,
    compose,
    from_environment,
    from_table,
    options_of,
    parse_bool,
    parse_duration,
    parse_mode,
    parse_size,
    parse_value,
)
from ossmount.errors import SettingsError
from ossmount.ranges import RANGES, check_range

QUICK = settings(max_examples=60)


@QUICK
@given(
    st.integers(0, 10**15),
    st.sampled_from(["", "k", "K", "M", "g", "T"]),
    st.sampled_from(["", "B", "iB", "ib"]),
)
def test_sizes_are_powers_of_1024(number: int, unit: str, suffix: str) -> None:
    scale = 1024 ** ["", "k", "m", "g", "t"].index(unit.lower())
    # Above 2**53 the number passes through a float; nobody configures a petabyte to the byte.
    assert parse_size(f" {number}{unit}{suffix} ") == pytest.approx(number * scale, rel=1e-12)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("1.5G", 3 << 29), ("64 K", 65536), ("4096", 4096)])
def test_size_examples(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "K", "1X", "1 2", "1e3", "0x10", "1,5G", "∞"])
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@QUICK
@given(
    st.integers(0, 10**9),
    st.sampled_from([("ms", 0.001), ("s", 1), ("", 1), ("m", 60), ("h", 3600), ("d", 86400)]),
)
def test_durations(number: int, unit: tuple[str, float]) -> None:
    assert parse_duration(f"{number}{unit[0]}") == pytest.approx(number * unit[1])


@pytest.mark.parametrize("text", ["", "-1s", "s", "1w", "1h30m", "1.s", "nan"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.integers(0, 0o777))
@QUICK
def test_modes_are_octal(mode: int) -> None:
    assert parse_mode(f"{mode:04o}") == mode


@pytest.mark.parametrize("text", ["8", "1777", "-1", "r--", ""])
def test_no_mode(text: str) -> None:
    with pytest.raises(ValueError, match="is not a mode"):
        parse_mode(text)


@pytest.mark.parametrize(("text", "value"), [("", True), ("YES", True), ("0", False), (" off ", False)])
def test_booleans(text: str, value: bool) -> None:
    assert parse_bool(text) is value


def test_neither_true_nor_false() -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        parse_bool("maybe")


@QUICK
@given(st.text(max_size=12), st.sampled_from(sorted(ALL_OPTIONS)))
def test_any_text_is_a_value_or_a_settings_error(text: str, name: str) -> None:
    try:
        value = parse_value(name, text, "here")
    except SettingsError as error:
        assert str(error).startswith("here: ")  # noqa: PT017 - both outcomes are right, this one has a form
    else:
        assert value is not None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("workers", "0"), ("workers", "100000"), ("prefetchers", "-1"), ("max_requests", "0"),
        ("max_bytes", "0"), ("block_size", "0"), ("part_size", "1"), ("small_file", "1T"), ("retries", "-1"),
        ("read_deadline", "0"), ("connect_timeout", "0"), ("max_request_rate", "nan"), ("refresh", "0"),
        ("max_request_rate", "-1"), ("size_concurrency", "0"), ("uid", "-1"), ("max_background", "65536"),
    ],
)  # fmt: skip
def test_absurd_limits_are_refused_with_what_is_allowed(name: str, text: str) -> None:
    least, most = RANGES[name]
    with pytest.raises(SettingsError) as refused:
        parse_value(name, text, "--it")
    assert str(refused.value) == f"--it: {text!r} is not between {least} and {most}"
    for bound in (least, most):
        assert parse_value(name, bound, "--it") == ALL_OPTIONS[name].parse(bound)


def test_names_are_unique_across_sections() -> None:
    names = [name for section in SECTIONS.values() for name in options_of(section)]
    assert sorted(names) == sorted(set(names))
    assert {*SECTIONS, "given"} == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("name", sorted(ALL_OPTIONS))
def test_every_option_is_explained(name: str) -> None:
    opt = ALL_OPTIONS[name]
    assert opt.help
    assert not opt.help.endswith(".")
    default = next(
        field.default
        for section in SECTIONS.values()
        for field in dataclasses.fields(section)
        if field.name == name
    )
    assert not opt.choices or default in opt.choices
    if default is not None:
        check_range(name, str(default), default, opt.parse)


def test_later_layers_win() -> None:
    composed = compose({"workers": 3, "retries": 1}, {"workers": 4}, {})
    assert (composed.mount.workers, composed.store.retries) == (4, 1)
    assert composed.cache == Settings().cache


def test_environment_takes_only_its_own() -> None:
    found = from_environment({"OSSMOUNT_CACHE_SIZE": "1G", "OSSMOUNT_NOTHING": "x", "cache_size": "2G"})
    assert found == {"cache_size": 1 << 30}


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^OSSMOUNT_LAYOUT: 'tree' is not one of keys, labels"):
        from_environment({"OSSMOUNT_LAYOUT": "tree"})


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ({"cache-size": "1G"}, {"cache_size": 1 << 30}),
        ({"cache_size": 4096}, {"cache_size": 4096}),
        ({"push": False, "read-deadline": 1.5}, {"push": False, "read_deadline": 1.5}),
        ({"file-mode": "0400"}, {"file_mode": 0o400}),
        ({"label": ["cat", "dog"], "suffix": [".jpg"]}, {"label": "cat,dog", "suffix": ".jpg"}),
        ({"include": ["a,b", "c\\d"], "exclude": "x,y"}, {"include": r"a\,b,c\\d", "exclude": "x,y"}),
    ],
)
def test_tables(table: dict[str, Any], values: dict[str, Any]) -> None:
    assert from_table(table, "c.toml") == values


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("dir-mode = 0o555", r'^c\.toml: dir-mode: 365 may be .* in quotes: dir-mode = "0555"$'),
        ("file-mode = 400", "file-mode: 400 may be of any base"),
        ("label = [1, 2]", r"label: \[1, 2\] is not texts in a list"),
        ("include = {a = 1}", "is not texts in a list"),
        ('profile = ["a"]', r"profile: \['a'\] is not one value"),
        ('split = ["train=0.9", "val=0.1"]', "is not one value"),
        ("columns = {key = 'path'}", "is not one value"),
        ("region = 2020-01-01", "is not one value"),
    ],
)
def test_values_of_toml_that_are_none(line: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        from_table(tomllib.loads(line), "c.toml")


def test_options_that_take_words() -> None:
    assert {name for name, opt in ALL_OPTIONS.items() if opt.takes_words} == {
        *("include", "exclude", "label", "suffix")
    }


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^c\.toml: unknown key 'cache-sise'"):
        from_table({"cache-sise": "1G"}, "c.toml")
