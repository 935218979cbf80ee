"""The record of a mount, and counters that its processes publish."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ossmount.app.runtime import MountRecord, read_record, remove_record, runtime_directory, write_json
from ossmount.app.statistics import read_statistics
from ossmount.errors import MountError, RuntimeUnusable

PLACE = "/mnt/a place"


@pytest.fixture(autouse=True)
def _own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSMOUNT_RUNTIME_DIR", str(tmp_path / "runtime"))


def record() -> MountRecord:
    return MountRecord(mountpoint=PLACE, source="s3://b/p/", index="/c/i.ossidx", supervisor=123)


def test_a_record_comes_back_and_goes() -> None:
    written = record()
    directory = written.write()
    assert read_record(PLACE) == written
    assert directory == runtime_directory(PLACE)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert read_record("/mnt/other") is None
    remove_record(PLACE)
    assert read_record(PLACE) is None
    assert not directory.exists()


def test_what_ends_late_leaves_the_record_of_the_next_mount() -> None:
    """A mount that was detached serves open files for a while: another may stand in its place by then."""
    before, after = record(), replace(record(), supervisor=record().supervisor + 1)
    before.write()
    after.write()
    before.remove()
    assert read_record(PLACE) == after
    after.remove()
    assert read_record(PLACE) is None


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runtime").write_text("in the way")
    with pytest.raises(RuntimeUnusable, match=r"runtime/\w+: Not a directory; .*OSSMOUNT_RUNTIME_DIR"):
        record().write()
    assert (tmp_path / "runtime").read_text() == "in the way"


def test_a_new_mount_forgets_the_counters_of_the_last() -> None:
    write_json(record().write() / "stats" / "worker-1.json", {"reads": 5})
    assert read_statistics(PLACE) == {"reads": 5}
    record().write()
    assert read_statistics(PLACE) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "unknown": 2}'])
def test_a_record_that_this_version_cannot_read_is_none(text: str) -> None:
    (record().write() / "mount.json").write_text(text)
    assert read_record(PLACE) is None


def test_counters_of_all_processes_add_up() -> None:
    stats = record().write() / "stats"
    write_json(stats / "worker-1.json", {"store": {"get_requests": 3}, "fetcher": {"reads": 1}})
    write_json(stats / "worker-2.json", {"store": {"get_requests": 4, "list_requests": 1}})
    (stats / "worker-3.json").write_text("{torn")
    (stats / ".worker-4.json.99").write_text(json.dumps({"store": {"get_requests": 100}}))
    assert read_statistics(PLACE) == {
        "store": {"get_requests": 7, "list_requests": 1},
        "fetcher": {"reads": 1},
    }


def test_counters_of_no_mount() -> None:
    with pytest.raises(MountError, match="no ossmount mount of this user at /mnt/none; see 'ossmount list'"):
        read_statistics("/mnt/none")


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    before = path.open()
    write_json(path, {"a": 2})
    assert json.load(before) == {"a": 1}
    before.close()
    assert json.loads(path.read_text()) == {"a": 2}
    assert os.listdir(tmp_path) == ["value.json"]  # noqa: PTH208 - hidden files count too


def test_a_record_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert not list(tmp_path.iterdir())
    (tmp_path / "y.json").mkdir()
    with pytest.raises(OSError, match=r"y\.json"):
        write_json(tmp_path / "y.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["y.json"]
