"""A program that reads image folders as training does: torchvision's ImageFolder, DataLoader, shuffled.

It imports torch once and then runs epochs on demand (a JSON line each way), in a process group of its own
that a test kills when it hangs. Touch it when tests want to know more of an epoch.

    python -m tests.support.trainer
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
IMPORT_SECONDS = 60.0
EPOCH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """Classes, and of each sample (path relative to the folder) its class and SHA-256."""

    classes: list[str]
    samples: dict[str, tuple[str, str]]


class Trainer:
    """The program, from the test's side."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.trainer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._answer(IMPORT_SECONDS)

    def start(self, directory: Path, epochs: int = 1, workers: int = 8) -> None:
        """Starts reading; :meth:`finish` gives what was read."""
        assert self._process.stdin is not None
        job = {"directory": str(directory), "epochs": epochs, "workers": workers}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()

    def finish(self, seconds: float = EPOCH_SECONDS) -> list[Epoch]:
        """The epochs that :meth:`start` began; an error in the program is the test's."""
        answer = self._answer(seconds)
        if "error" in answer:
            pytest.fail(answer["error"])
        return [
            Epoch(epoch["classes"], {path: (c, d) for path, c, d in epoch["samples"]})
            for epoch in answer["epochs"]
        ]

    def epoch(self, directory: Path, workers: int = 8) -> Epoch:
        """One epoch."""
        self.start(directory, workers=workers)
        return self.finish()[0]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            pytest.fail(f"the training program gave no answer within {seconds} s")
        return dict(json.loads(line))

    def kill(self) -> None:
        """Kills the program and its DataLoader workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=20)


def read_bytes_and_decode(path: str) -> str:
    """An ImageFolder loader: the image must decode; gives its path and the digest of its bytes."""
    from PIL import Image

    data = Path(path).read_bytes()
    Image.open(io.BytesIO(data)).convert("RGB")
    return f"{hashlib.sha256(data).hexdigest()} {path}"


def run_epochs(directory: str, epochs: int, workers: int) -> Iterator[dict[str, Any]]:
    """Reads ``directory`` as many times, each sample once."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    images = ImageFolder(directory, loader=read_bytes_and_decode)
    loader = DataLoader(images, batch_size=8, shuffle=True, num_workers=workers)
    for _ in range(epochs):
        samples = []
        for loaded, targets in loader:
            for text, target in zip(loaded, targets.tolist(), strict=True):
                digest, _, path = text.partition(" ")
                samples.append((os.path.relpath(path, directory), images.classes[target], digest))
        assert len(samples) == len(images)
        yield {"classes": images.classes, "samples": samples}


def main() -> None:
    """Answers until standard input ends."""
    from tests.support.torchvision_ops import import_torchvision

    import_torchvision()
    import torchvision.datasets  # noqa: F401 - imported before the first epoch is timed

    answers, sys.stdout = sys.stdout, sys.stderr
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"epochs": list(run_epochs(**json.loads(line)))}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
