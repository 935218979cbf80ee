"""The commands ``ossmount`` and ``mount.ossmount``.

What may live here: argv, environment and TOML in; text, JSON, progress and an exit status out. Whatever a
command *does* is a function of :mod:`ossmount.app`. Who may touch it: whoever adds a command; nobody
imports this room. ``--help`` stays quick because :mod:`ossmount.app` is imported when a command runs.
"""

from __future__ import annotations

import sys
from typing import Any


def main(*arguments: Any, **named: Any) -> int:
    """:func:`ossmount.cli.entry.main`, which is imported here: Ctrl-C may come before that is done."""
    try:
        from ossmount.cli import entry
    except KeyboardInterrupt:
        sys.stderr.write("ossmount: interrupted\n")
        return 130
    return entry.main(*arguments, **named)


__all__ = ["main"]
