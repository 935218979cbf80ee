"""``python -m ossmount`` is the command ``ossmount``, where its script is not on PATH."""

from __future__ import annotations

import sys

from ossmount.cli import main

if __name__ == "__main__":
    sys.exit(main())
