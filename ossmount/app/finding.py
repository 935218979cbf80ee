"""One result of ``ossmount doctor``. A value; who adds a check makes these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """``ok`` is None where something works less well, or could not be found out."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""
