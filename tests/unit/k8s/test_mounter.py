"""The hand-shake of a volume's process: one line on standard output, whatever else would be printed there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOUD = """
print("imported")

def parse(stream):
    print("asked")
    raise ValueError("no such column")
    yield
"""


def test_what_a_manifest_parser_prints_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    (tmp_path / "list").write_text("a")
    options = {
        "manifest": str(tmp_path / "list"),
        "manifest_parser": "loud:parse",
        "base_uri": "s3://bucket/",
    }
    job = {"sources": [], "mountpoint": "/dev/fd/9", "options": options | {"cache_dir": str(tmp_path)}}
    done = subprocess.run(
        [sys.executable, "-m", "ossmount.k8s.mounter"],
        input=f"{json.dumps(job)}\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": ":".join([*sys.path, str(tmp_path)]), "HOME": str(tmp_path)},
    )
    message = json.loads(done.stdout)["error"]["message"]
    assert "the manifest parser failed: ValueError: no such column" in message
    assert {"imported", "asked"} <= set(done.stderr.splitlines())
    assert done.returncode == 3
