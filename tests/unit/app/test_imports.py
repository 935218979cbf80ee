"""What a mount's supervisor does not load, because every worker would carry it: counted once, it stays so."""

from __future__ import annotations

import subprocess
import sys


def test_mounting_loads_neither_numerics_nor_sdks() -> None:
    code = (
        "import sys, ossmount.app.mounting;"
        "print(*sorted({'numpy', 'pyarrow', 'oss2', 'boto3', 'opendal', 'rich', 'grpc'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == []
