"""Writes the names of options into the chart's schema: ``python packaging/helm/options_schema.py``.

Helm then refuses a misspelt default, which the driver would not notice: unknown variables of the
environment mean nothing. ``make docs`` runs this; a test fails where it was not run after a new option.
"""

from __future__ import annotations

import re
from pathlib import Path

from ossmount.config import ALL_OPTIONS

SCHEMA = Path(__file__).parent / "ossmount/values.schema.json"

OWN_VALUES = {"cache_dir", "log_level", "log_file"}
"""The chart sets these itself, from values of their own."""

PER_VOLUME = {"manifest", "objects", "base_uri", "columns", "manifest_parser", "index", "clean", "rebuild"}
"""No default for a node makes sense: they say what one volume shows."""


def with_options(schema: str) -> str:
    """``schema`` with the names that ``options`` may have, one a line."""
    names = sorted(name.replace("_", "-") for name in ALL_OPTIONS.keys() - OWN_VALUES - PER_VOLUME)
    lines = ",\n".join(f'          "{name}"' for name in names)
    replaced, count = re.subn(
        r'("options": \{\s+"type": "object",\s+"propertyNames": \{)[^}]*\}',
        lambda match: f'{match[1]}\n        "enum": [\n{lines}\n        ]\n      }}',
        schema,
    )
    if count != 1:
        raise SystemExit(f"{SCHEMA}: no place for the names of options")
    return replaced


if __name__ == "__main__":
    SCHEMA.write_text(with_options(SCHEMA.read_text()))
