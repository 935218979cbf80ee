"""JSON that others wrote, as values.

What may live here: what :mod:`json` raises, made one kind of error. Who may touch it: whoever meets another.
"""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """The value that ``text`` writes. Raises ValueError, also for what is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("values are nested too deeply") from None
