"""Flags, -o, TOML and the environment become settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.cli.catalogue import COMMANDS
from ossmount.cli.command import parse
from ossmount.cli.options import (
    FOREIGN_MOUNT_OPTIONS,
    Given,
    default_of,
    flag_of,
    format_value,
    is_switch,
    negative_flag_of,
    parse_mount_options,
    settings_of,
    split_mount_options,
)
from ossmount.config import ALL_OPTIONS, Settings, parse_value
from ossmount.errors import SettingsError
from ossmount.ranges import RANGES

MOUNT = COMMANDS[0]


def mount_settings(*words: str, environment: dict[str, str] | None = None) -> Settings:
    """The settings of ``ossmount mount s3://b /m WORDS``."""
    arguments = parse(MOUNT, ["s3://b", "/m", *words])
    return settings_of(arguments.given, arguments.config, environment or {})


@pytest.mark.parametrize("name", sorted(ALL_OPTIONS))
def test_a_default_written_out_means_the_default(name: str) -> None:
    default = default_of(name)
    if default is not None:
        assert parse_value(name, format_value(ALL_OPTIONS[name], default), "") == default


@pytest.mark.parametrize("name", sorted(ALL_OPTIONS))
def test_every_option_is_a_flag_and_a_mount_option(name: str) -> None:
    opt = ALL_OPTIONS[name]
    text = opt.choices[-1] if opt.choices else RANGES.get(name, ("0444",))[0]
    by_flag = mount_settings(flag_of(name)) if is_switch(opt) else mount_settings(flag_of(name), text)
    by_word = mount_settings("-o", flag_of(name)[2:] + ("" if is_switch(opt) else f"={text}"))
    by_variable = mount_settings(environment={f"OSSMOUNT_{name.upper()}": "true" if is_switch(opt) else text})
    assert by_flag == by_word == by_variable
    assert by_flag == mount_settings("-o", f"{name}={'true' if is_switch(opt) else text}")


@pytest.mark.parametrize("name", [name for name, opt in ALL_OPTIONS.items() if is_switch(opt)])
def test_every_switch_can_be_turned_off_again(name: str) -> None:
    on = {f"OSSMOUNT_{name.upper()}": "true"}
    off = mount_settings(negative_flag_of(name), environment=on)
    assert off == mount_settings("-o", negative_flag_of(name)[2:], environment=on)
    assert off == mount_settings("-o", f"{name}=false", environment=on)
    assert off == mount_settings(environment={f"OSSMOUNT_{name.upper()}": "no"})


def test_precedence(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("workers = 3\nretries = 3\nprefetchers = 3\nmax-requests = 3\n")
    found = mount_settings(
        "--config", str(config), "--retries", "9", "-o", "prefetchers=9",
        environment={"OSSMOUNT_WORKERS": "6", "OSSMOUNT_RETRIES": "6"},
    )  # fmt: skip
    assert found.readahead.max_requests == 3
    assert found.mount.workers == 6
    assert (found.store.retries, found.readahead.prefetchers) == (9, 9)
    assert found.cache == Settings().cache


def test_config_may_come_from_the_environment_and_from_fstab(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("workers = 3")
    assert mount_settings(environment={"OSSMOUNT_CONFIG": str(config)}).mount.workers == 3
    assert mount_settings("-o", f"ro,config={config}").mount.workers == 3


def test_the_later_of_flag_and_mount_option_wins() -> None:
    assert mount_settings("--workers", "3", "-o", "workers=4").mount.workers == 4
    assert mount_settings("-o", "workers=4", "--workers", "3").mount.workers == 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("workers = ", "c.toml: "),
        ("workres = 3", "unknown key 'workres'"),
        ("workers = 'many'", "c.toml: workers: 'many' is not a number"),
        ("workers = 2.5", "c.toml: workers: '2.5' is not a number"),
        (r'view = "a\u0000b"', r"c.toml: view: 'a\x00b' holds a NUL byte"),
        ("[mount]\nworkers = 3", "unknown key 'mount'"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, complaint: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text(content)
    with pytest.raises(SettingsError) as caught:
        mount_settings("--config", str(config))
    assert complaint in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^/nowhere/c\.toml: No such file"):
        mount_settings("--config", "/nowhere/c.toml")


@settings(max_examples=80)
@given(st.lists(st.text(min_size=1), min_size=0, max_size=6))
def test_words_of_mount_options_survive_escaping(words: list[str]) -> None:
    joined = ",".join(word.replace("\\", "\\\\").replace(",", "\\,") for word in words)
    assert split_mount_options(joined) == words


def test_words_of_others_are_let_through() -> None:
    foreign = ",".join([*sorted(FOREIGN_MOUNT_OPTIONS), "x-systemd.automount", "user=me", "comment=a"])
    assert parse_mount_options(foreign) == []
    assert parse_mount_options(f"ro,{foreign},,allow_other") == [
        Given("allow_other", "true", "-o allow_other")
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rw", "never writes"),
        ("cache-sise=1G", "did you mean 'cache-size'"),
        ("zzz", "unknown option 'zzz'"),
        ("cache-size", "-o cache-size needs a value"),
        ("no-workers", "unknown option 'no-workers'"),
    ],
)
def test_unknown_words_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_mount_options(text)
    assert complaint in str(caught.value)


def test_sloppy_passes_over_unknown_words() -> None:
    assert parse_mount_options("zzz,workers=3", sloppy=True) == [Given("workers", "3", "-o workers")]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--workers", "many"), "--workers: "),
        (("--layout", "tree"), "--layout: 'tree' is not one of keys, labels"),
        (("--cache-sise", "1"), "--cache-sise"),
        (("--cache-size", "1Q"), "is not a size"),
        (("--cache-size",), "expected one argument"),
    ],
)
def test_bad_flags_are_named(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        mount_settings(*words)
    assert complaint in str(caught.value)
