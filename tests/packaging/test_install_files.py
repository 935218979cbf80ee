"""packaging/install-files.sh puts everything where the system looks for it.

Touch it when it installs more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.programs import ROOT, output_of, run

SCRIPT = str(ROOT / "packaging/install-files.sh")
COMMAND = Path(sys.executable).parent / "ossmount"


def test_into_a_tree_of_its_own(tmp_path: Path) -> None:
    environment = {**os.environ, "DESTDIR": str(tmp_path / "root")}
    out = output_of(SCRIPT, str(COMMAND), env=environment)
    installed = {line.removeprefix(str(tmp_path / "root")) for line in out.splitlines()}
    assert installed == {
        "/sbin/mount.ossmount",
        "/sbin/mount.fuse.ossmount",
        "/etc/systemd/system/ossmount@.service",
        "/usr/local/share/man/man1/ossmount.1",
        "/usr/local/share/man/man8/mount.ossmount.8",
        "/usr/local/share/bash-completion/completions/ossmount",
        "/usr/local/share/zsh/site-functions/_ossmount",
        "/usr/share/fish/vendor_completions.d/ossmount.fish",
    }
    root = tmp_path / "root"
    assert (root / "sbin/mount.fuse.ossmount").readlink() == COMMAND.parent / "mount.ossmount"
    unit = (root / "etc/systemd/system/ossmount@.service").read_text()
    assert f"ExecStart={COMMAND} mount --foreground" in unit
    assert "/usr/bin/ossmount" not in unit
    assert output_of(SCRIPT, str(COMMAND), env=environment) == out, "a second time gives the same"


def test_without_the_command(tmp_path: Path) -> None:
    done = run(SCRIPT, env={"PATH": "/usr/bin:/bin", "DESTDIR": str(tmp_path)})
    assert done.returncode == 1
    assert "no ossmount on PATH" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_command_of_somewhere_else(tmp_path: Path) -> None:
    done = run(SCRIPT, "/bin/true", env={"PATH": "/usr/bin:/bin", "DESTDIR": str(tmp_path)})
    assert done.returncode == 1
    assert "not in a virtual environment" in done.stderr
