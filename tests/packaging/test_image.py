"""The container image, as far as it can be checked where no image can be built.

Touch it when the Dockerfile needs other files.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from tests.support.programs import ROOT, output_of, program

DOCKERFILE = ROOT / "packaging/docker/Dockerfile"


def copied() -> list[str]:
    """What is copied out of the build context."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    return [word for line in lines for word in line.split()[:-1]]


def allowed() -> list[str]:
    return re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)


def test_hadolint() -> None:
    output_of(program("hadolint"), "--failure-threshold", "style", str(DOCKERFILE))


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    assert sorted(copied()) == sorted(allowed())
    assert [name for name in copied() if not (ROOT / name).exists()] == []


def test_what_is_copied_makes_a_wheel(tmp_path: Path) -> None:
    context = tmp_path / "context"
    for name in copied():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, context / name)
    program_text = "import setuptools.build_meta as backend, sys; print(backend.build_wheel(sys.argv[1]))"
    out = output_of(sys.executable, "-c", program_text, str(tmp_path), cwd=context)
    wheel = out.splitlines()[-1]
    assert wheel.startswith("ossmount-")
    listed = output_of(sys.executable, "-m", "zipfile", "--list", str(tmp_path / wheel))
    for part in ("ossmount/cli/entry.py", "ossmount/py.typed", "entry_points.txt", "LICENSE"):
        assert part in listed


def test_the_image_is_nobodys() -> None:
    stages = DOCKERFILE.read_text().split("\nFROM ")
    assert len(stages) == 3, "a build stage, and one that is kept"
    assert re.findall(r"^USER (.+)$", stages[-1], re.MULTILINE) == ["65534:65534"]
    assert "apt-get install --yes --no-install-recommends gcc" not in stages[-1]
    assert ":latest" not in DOCKERFILE.read_text()
