"""``--log-format json``: every line that a foreground mount writes is an object with the same keys.

That holds for what the command says to its user, too.

Touch it when the log gets another field.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import Home
from tests.support.mounting import is_mounted, needs_fuse, wait_for

KEYS = {"time", "level", "logger", "pid", "message"}


@needs_fuse
@pytest.mark.fuse
@pytest.mark.parametrize("to_file", [True, False], ids=["file", "terminal"])
def test_every_line_is_an_object_with_fixed_keys(home: Home, tmp_path: Path, to_file: bool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "lost").write_text("lost")
    (source / "kept").write_text("kept")
    path = home.directory()
    words = ["mount", "--foreground", "--log-format", "json", "--log-level", "debug", f"file://{source}/"]
    variables = home.variables()
    if not to_file:
        del variables["OSSMOUNT_LOG_FILE"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ossmount", *words, str(path)],
        env=variables,
        cwd=home.path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: is_mounted(path) or process.poll() is not None, 30, lambda: home.log)
        assert (path / "kept").read_text() == "kept"
        (source / "lost").unlink()
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            (path / "lost").read_bytes()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()  # nothing where it has ended
        process.wait()
    assert process.returncode == 0, err + home.log
    written = home.log if to_file else err
    lines = [json.loads(line) for line in written.splitlines()]
    said = [json.loads(line) for line in err.splitlines()]
    assert any("lost" in line["message"] for line in lines)
    assert f"serving {path}" in [line["message"] for line in said]
    for line in lines + said:
        assert set(line) - {"error"} == KEYS
        assert isinstance(line["pid"], int)
    assert home.left_behind() == []
