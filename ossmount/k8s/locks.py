"""One operation at a time on a target: a second call is refused, not queued.

Specification, Error Scheme: "Operation pending for volume" is ABORTED; kubelet calls again. What may live
here: that lock. Who may touch it: hardly anybody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ossmount.k8s.refusal import Code, Refusal


class OperationLocks:
    """Which targets are being worked on. Thread-safe."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<OperationLocks {sorted(self._busy)}>"

    @contextmanager
    def hold(self, target: str) -> Iterator[None]:
        """Raises Refusal (ABORTED) where another call works on ``target``."""
        if not self._take(target):
            raise Refusal(Code.ABORTED, f"an operation is pending for {target}")
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(target)

    def _take(self, target: str) -> bool:
        with self._lock:
            if target in self._busy:
                return False
            self._busy.add(target)
            return True
