"""The machine's table of hosts is whole at every moment, whoever adds names of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.host_names import host_names

KEPT = "127.0.0.1 localhost\n::1 localhost\n"


@pytest.mark.parametrize("before", [KEPT, KEPT.rstrip("\n"), ""])
def test_only_the_own_line_comes_and_goes(tmp_path: Path, before: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(before)
    with host_names("a.test", "b.test", hosts=hosts):
        assert "127.0.0.1 a.test b.test" in hosts.read_text()
        with hosts.open("a") as file:
            file.write("10.0.0.1 other\n")
    kept = before if before.endswith("\n") or not before else before + "\n"
    assert hosts.read_text() == kept + "10.0.0.1 other\n"


def test_those_who_look_names_up_miss_none_while_others_come_and_go(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(KEPT)

    def come_and_go(name: str) -> int:
        missed = 0
        for _ in range(100):
            with host_names(name, hosts=hosts):
                missed += KEPT not in hosts.read_text()
            missed += KEPT not in hosts.read_text()
        return missed

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(come_and_go, ["a.test", "b.test", "c.test", "a.test"])) == [0, 0, 0, 0]
    assert hosts.read_text() == KEPT
