"""How the driver starts, where it cannot, and what does not end it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ossmount.errors import SettingsError
from ossmount.k8s.processes import OrphanReaper
from ossmount.k8s.server import Driver, look_after


@pytest.mark.skipif(os.geteuid() != 0, reason="the driver runs as root only")
def test_a_socket_that_cannot_be_made(tmp_path: Path) -> None:
    driver = Driver("unix:///proc/csi.sock", "node", state=tmp_path / "state", secrets=tmp_path / "secrets")
    with pytest.raises(
        SettingsError, match=r"^--endpoint: no socket can be made at /proc/csi\.sock; name one in"
    ):
        driver.run({})


def test_want_of_descriptors_does_not_end_the_driver(caplog: pytest.LogCaptureFixture) -> None:
    """With it every mount of the node would end."""

    def tidy() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    look_after(cast("Any", SimpleNamespace(tidy=tidy)), OrphanReaper())
    assert caplog.messages == ["cannot look for what has died: Too many open files; trying again"]
