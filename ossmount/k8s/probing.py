"""Asking a mount how it is without being caught by it: another process asks, and may be left waiting.

What may live here: that question. Who may touch it: whoever wants to know more than ``statfs`` tells.
"""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ANSWER_SECONDS = 3.0
"""A serving mount answers ``statfs`` from its index in a millisecond."""


class Condition(Enum):
    """What a mount answered."""

    SERVING = 1
    DEAD = 2
    SILENT = 3


@dataclass(frozen=True, slots=True)
class Usage:
    """What ``statfs`` told: bytes and files of the volume; nothing of it is available for writing."""

    total_bytes: int
    files: int


class Prober:
    """Asks mounts; at most one question to each is unanswered. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[str, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Prober waiting={sorted(self._waiting)}>"

    def ask(self, path: Path, seconds: float = ANSWER_SECONDS) -> tuple[Condition, Usage | None]:
        """The condition of the mount on ``path``, with its usage where it serves."""
        with self._lock:
            earlier = self._waiting.get(str(path))
            if earlier is not None and earlier.poll() is None:
                return Condition.SILENT, None
            self._waiting.pop(str(path), None)
        question = subprocess.Popen(  # noqa: S603 - a fixed program, the path is no option
            ["stat", "--file-system", "--format=%S %b %c", "--", str(path)],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            answer, _ = question.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._leave(str(path), question)
            return Condition.SILENT, None
        if question.returncode != 0:
            return Condition.DEAD, None
        size, blocks, files = map(int, answer.split())
        return Condition.SERVING, Usage(size * blocks, files)

    def _leave(self, path: str, question: subprocess.Popen[str]) -> None:
        question.kill()
        if question.stdout is not None:
            question.stdout.close()
        with self._lock:
            self._waiting[path] = question
