"""The knobs: which files get which numbers, and one line for those that may not be set."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from ossmount.config import MountSettings
from ossmount.fuse import kernel_knobs


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    for name in ("class/bdi/0:39/read_ahead_kb", "fs/fuse/connections/39/max_background"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("128\n")
    (tmp_path / "fs/fuse/connections/39/congestion_threshold").write_text("9\n")
    return tmp_path


def test_all_knobs_are_turned(sysfs: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = MountSettings(kernel_read_ahead=2 << 20, max_background=400)
    assert kernel_knobs.apply(39, settings, sysfs) == []
    assert [knob.current() for knob in kernel_knobs.knobs(39, settings, sysfs)] == [2048, 400, 300]
    assert caplog.records == []


def test_what_cannot_be_turned_is_said_in_one_line(
    sysfs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    problems = kernel_knobs.apply(40, MountSettings(), sysfs)
    assert len(problems) == 3
    (record,) = caplog.records
    assert "read_ahead_kb: No such file or directory" in record.getMessage()
    assert "fusectl" in record.getMessage()
    assert [knob.current() for knob in kernel_knobs.knobs(40, MountSettings(), sysfs)] == [None] * 3


def test_a_connection_is_aborted_where_that_is_allowed(sysfs: Path) -> None:
    control = sysfs / "fs/fuse/connections/39/abort"
    control.touch()
    kernel_knobs.abort(39, sysfs)
    assert control.read_text() == "1"
    kernel_knobs.abort(40, sysfs)


@pytest.mark.parametrize(("text", "number"), [("pos:\t0\nfuse_connection:\t57\n", 57), ("pos:\t0\n", None)])
def test_the_connection_of_a_descriptor(tmp_path: Path, text: str, number: int | None) -> None:
    (tmp_path / "self/fdinfo").mkdir(parents=True)
    (tmp_path / "self/fdinfo/7").write_text(text)
    assert kernel_knobs.connection_of(7, tmp_path) == number


def test_a_descriptor_of_another_kind_has_no_connection() -> None:
    reader, writer = os.pipe()
    assert kernel_knobs.connection_of(reader) is None
    os.close(reader)
    os.close(writer)
