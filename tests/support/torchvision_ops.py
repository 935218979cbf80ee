"""Imports torchvision where its binary does not match the torch that is installed.

torchvision's Python code asks for two operators of its compiled library while it is imported. With a
build of torch that it was not made for, the library does not load and the operators are unknown; nothing
that reads images needs them. They are declared here, and only after a plain import has failed.

    python -m tests.support.torchvision_ops SCRIPT [ARGUMENTS]      runs an unmodified script
"""

from __future__ import annotations

import runpy
import sys
from types import ModuleType
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_kept: list[Any] = []
"""Operators live as long as the object that declared them."""


def import_torchvision() -> ModuleType:
    """torchvision, imported. Raises ImportError where it, or torch, is not installed."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return torchvision
    _forget_half_imported()
    _declare_operators()
    import torchvision

    return torchvision


def _forget_half_imported() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}{_SCHEMA}")
    _kept.append(library)


def main() -> None:
    """Runs the script of the command line with torchvision importable."""
    import_torchvision()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
