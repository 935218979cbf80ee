"""A CSI driver that kills itself at a step: ``python -m tests.support.csi_crash STEP csi --endpoint …``.

STEP names a function of the driver, and whether it dies before or after it: ``after:volumes._make_target``.
A number behind ``#`` counts calls. The step's process is the driver alone. Touch it when a step is added.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

from ossmount.cli import main


def crash_at(step: str) -> None:
    when, _, place = step.partition(":")
    place, _, count = place.partition("#")
    module_name, _, path = place.partition(".")
    holder: Any = importlib.import_module(f"ossmount.k8s.{module_name}")
    *above, name = path.split(".")
    for part in above:
        holder = getattr(holder, part)
    real, left = getattr(holder, name), int(count or 1)

    def crashing(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, crashing)


if __name__ == "__main__":
    crash_at(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
