"""``python -m ossmount.cli`` is the command ``ossmount``."""

from __future__ import annotations

import sys

from ossmount.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
