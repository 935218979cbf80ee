"""Writes the manifests beside it from the chart: ``python packaging/kustomize/from_chart.py [HELM]``.

The chart is the one place where they are edited; a test fails where this was not run after. What may live
here: which lines of a rendered chart are Helm's own. Who may touch it: whoever adds a template.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
CHART = FOLDER.parent / "helm/ossmount"
NAMESPACE = "ossmount"

_OF_HELM = re.compile(
    r"^(# Source: .*| +app\.kubernetes\.io/managed-by: .*| +helm\.sh/chart: .*)\n", re.MULTILINE
)
_KIND = re.compile(r"^kind: (\w+)$", re.MULTILINE)


def manifests(helm: str) -> dict[str, str]:
    """The rendered chart by file name, without what only Helm needs."""
    command = [helm, "template", "ossmount", str(CHART), "--namespace", NAMESPACE]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    files = {}
    for part in rendered.split("---\n"):
        kind = _KIND.search(part)
        if kind is not None:
            files[f"{kind[1].lower()}.yaml"] = _OF_HELM.sub("", part).strip() + "\n"
    return files


if __name__ == "__main__":
    for name, text in manifests(*(sys.argv[1:] or [str(Path(sys.executable).parent / "helm")])).items():
        (FOLDER / name).write_text(text)
