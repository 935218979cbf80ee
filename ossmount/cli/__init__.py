"""The commands ``ossmount`` and ``mount.ossmount``.

What may live here: argv, environment and TOML in; text, JSON, progress and an exit status out. Whatever a
command *does* is a function of :mod:`ossmount.app`. Who may touch it: whoever adds a command; nobody
imports this room. ``--help`` stays quick because :mod:`ossmount.app` is imported when a command runs.
"""

from __future__ import annotations

from ossmount.cli.entry import main

__all__ = ["main"]
