"""The container image, as far as it can be checked where no image can be built.

Touch it when the Dockerfile needs other files.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from ossmount.config import from_environment
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


def trimming(environment: Path) -> str:
    """The commands that take away from the environment what nobody needs."""
    text = DOCKERFILE.read_text().replace("\\\n", "")
    (line,) = re.findall(r"^RUN (/opt/ossmount/bin/pip .+)$", text, re.MULTILINE)
    steps = [step.strip() for step in line.replace("/opt/ossmount", str(environment)).split("&&")]
    return " && ".join(step for step in steps if step.startswith("find") and "strip" not in step)


def test_only_what_nobody_needs_is_taken_away(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.12/site-packages"
    services = [f"botocore/data/{name}/1/service.json" for name in ("s3", "sts", "sso", "sso-oidc", "signin")]
    kept = {*services, "botocore/data/endpoints.json", "botocore/session.py", "boto3/data/s3/r.json"}
    kept |= {"pyarrow/libarrow.so.2400", "numpy/core.py", "numpy/testing/utils.py", "ossmount/app/x.py"}
    gone = {"botocore/data/ec2/1/service.json", "botocore/data/sso-admin/1/service.json"}
    gone |= {"numpy/core/tests/test_x.py", "pyarrow/include/a.h", "pyarrow/lib.pyx", "Crypto/SelfTest/x/y.py"}
    gone |= {"pyarrow/libarrow_flight.so.2400"}
    for name in kept | gone:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).touch()
    output_of("sh", "-ec", trimming(tmp_path))
    assert {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()} == kept


def test_the_image_sets_no_option() -> None:
    """Whoever runs it inherits its variables, and a sidecar's own choice counts less than an option's."""
    variables = dict(re.findall(r"\b(OSSMOUNT_\w+)=(\S+)", DOCKERFILE.read_text()))
    assert variables.keys() == {"OSSMOUNT_RUNTIME_DIR"}
    assert from_environment(variables) == {}


def test_the_image_is_nobodys() -> None:
    stages = DOCKERFILE.read_text().split("\nFROM ")
    assert len(stages) == 3, "a build stage, and one that is kept"
    assert re.findall(r"^USER (.+)$", stages[-1], re.MULTILINE) == ["65534:65534"]
    assert "apt-get install --yes --no-install-recommends gcc" not in stages[-1]
    assert ":latest" not in DOCKERFILE.read_text()
