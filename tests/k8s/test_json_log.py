"""``OSSMOUNT_LOG_FORMAT=json`` for the driver: its own lines and those of its volumes are objects.

Touch it when the log gets another field.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.csi import Failed, needs_root, plugin

pytestmark = [needs_root, pytest.mark.fuse]


def test_every_line_of_driver_and_volumes_is_an_object(source: dict[str, str], tmp_path: Path) -> None:
    environment = {"OSSMOUNT_LOG_FORMAT": "json"}
    with plugin(tmp_path / "home", "--local-files", environment=environment) as driver:
        target = driver.target("data")
        with pytest.raises(Failed):
            driver.client.publish("data", target, {"source": "file:///no/such/directory/"})
        driver.client.publish("data", target, source)
        driver.client.unpublish("data", target)
        assert driver.kill(15) == 0
        lines = [json.loads(line) for line in driver.log.splitlines()]
    assert {"time", "level", "logger", "pid", "message"} == set.intersection(*map(set, lines))
    assert any(line["logger"] == "ossmount.k8s.server" for line in lines)
    assert any(line["pid"] != lines[0]["pid"] and line["logger"] == "ossmount" for line in lines)
