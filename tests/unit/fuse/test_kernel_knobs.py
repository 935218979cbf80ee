"""The knobs: which file gets which number, and one line where it may not be set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossmount.config import MountSettings
from ossmount.fuse import kernel_knobs


def read_ahead(tmp_path: Path) -> Path:
    path = tmp_path / "class/bdi/0:39/read_ahead_kb"
    path.parent.mkdir(parents=True)
    path.write_text("128\n")
    return path


def test_read_ahead_is_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    knob = read_ahead(tmp_path)
    assert kernel_knobs.set_read_ahead(39, MountSettings(kernel_read_ahead=2 << 20), tmp_path)
    assert knob.read_text() == "2048"
    assert caplog.records == []


def test_why_read_ahead_stays_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not kernel_knobs.set_read_ahead(40, MountSettings(), tmp_path)
    (record,) = caplog.records
    assert "0:40/read_ahead_kb: No such file or directory; mount as root" in record.getMessage()


def test_what_the_mounting_process_has_set_is_not_complained_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar has no privileges, and a /sys that is read-only."""
    knob = read_ahead(tmp_path)
    knob.write_text("2048\n")
    monkeypatch.delattr(Path, "write_text")
    assert kernel_knobs.set_read_ahead(39, MountSettings(kernel_read_ahead=2 << 20), tmp_path)
    assert caplog.records == []


def test_a_connection_is_aborted_where_that_is_allowed(tmp_path: Path) -> None:
    control = tmp_path / "fs/fuse/connections/39/abort"
    control.parent.mkdir(parents=True)
    control.touch()
    kernel_knobs.abort(39, tmp_path)
    assert control.read_text() == "1"
    kernel_knobs.abort(40, tmp_path)


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
