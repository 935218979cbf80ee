"""Writes the names of options into the chart's schema: ``python packaging/helm/options_schema.py``.

Helm then refuses a misspelt default, which the driver would not notice: unknown variables of the
environment mean nothing. It also refuses a mode that is a number: YAML reads 0440 as 288. ``make docs`` runs
this; a test fails where it was not run after a new option.
"""

from __future__ import annotations

import re
from pathlib import Path

from ossmount.config import ALL_OPTIONS, parse_mode

SCHEMA = Path(__file__).parent / "ossmount/values.schema.json"

OWN_VALUES = {"cache_dir", "log_level", "log_file"}
"""The chart sets these itself, from values of their own."""

PER_VOLUME = {"manifest", "objects", "base_uri", "columns", "manifest_parser", "index", "clean", "rebuild"}
"""No default for a node makes sense: they say what one volume shows."""


def with_options(schema: str) -> str:
    """``schema`` with the names that ``options`` may have, one a line, and those of them that are modes."""
    names = sorted(ALL_OPTIONS.keys() - OWN_VALUES - PER_VOLUME)
    lines = ",\n".join(f'          "{_shown(name)}"' for name in names)
    modes = ",\n".join(
        f'        "{_shown(name)}": {{ "$ref": "#/definitions/mode" }}'
        for name in names
        if ALL_OPTIONS[name].parse is parse_mode
    )
    replaced, count = re.subn(
        r'("options": \{\s+"type": "object",\s+"propertyNames": \{)[^}]*\}.*?(\s+"additionalProperties")',
        lambda match: (
            f'{match[1]}\n        "enum": [\n{lines}\n        ]\n      }},'
            f'\n      "properties": {{\n{modes}\n      }},{match[2]}'
        ),
        schema,
        flags=re.DOTALL,
    )
    if count != 1:
        raise SystemExit(f"{SCHEMA}: no place for the names of options")
    return replaced


def _shown(name: str) -> str:
    return name.replace("_", "-")


if __name__ == "__main__":
    SCHEMA.write_text(with_options(SCHEMA.read_text()))
