"""How the driver starts, where it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossmount.errors import SettingsError
from ossmount.k8s.server import Driver


@pytest.mark.skipif(os.geteuid() != 0, reason="the driver runs as root only")
def test_a_socket_that_cannot_be_made(tmp_path: Path) -> None:
    driver = Driver("unix:///proc/csi.sock", "node", state=tmp_path / "state", secrets=tmp_path / "secrets")
    with pytest.raises(
        SettingsError, match=r"^--endpoint: no socket can be made at /proc/csi\.sock; name one in"
    ):
        driver.run({})
