"""The soak's short form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.soak import soak

SECONDS = 15.0


@pytest.mark.fuse
@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse")
@pytest.mark.parametrize("unasked", [False, True], ids=["opens asked for", "opens unasked"])
def test_readers_see_neither_errors_nor_wrong_bytes_while_everything_fails(
    tmp_path: Path, unasked: bool
) -> None:
    report = soak(tmp_path / "home", SECONDS, pause=1.0, unasked=unasked)
    assert report.wrong == 0
    assert report.errors == {}
    assert report.files > 400
    assert report.kills["worker"] >= 1
    assert report.kills["prefetcher"] >= 1
