"""Ending mounts: which ones may be ended."""

from __future__ import annotations

import pytest

from ossmount.app import mounts
from ossmount.errors import MountpointUnusable


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("place", ["/", "/proc"])
def test_a_mount_of_others_is_left_alone(place: str, lazy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may detach any file system: what is not ours is not even tried."""
    monkeypatch.setattr(mounts, "unmount", lambda *_: pytest.fail("it was unmounted"))

    with pytest.raises(MountpointUnusable, match=rf"^{place} is no mount of ossmount but one of type \w+"):
        mounts.umount(place, lazy)
