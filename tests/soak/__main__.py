"""``python -m tests.soak``: the long form of the soak, with a report."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.soak.soak import soak


def main() -> int:
    """Runs for ``--minutes``; 1 if a byte was wrong or a reader saw an error."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two troubles")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--unasked", action="store_true", help="let the kernel open files without asking first"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="osm-soak-") as place:
        report = soak(
            Path(place) / "home",
            options.minutes * 60,
            options.pause,
            options.seed,
            print,
            unasked=options.unasked,
        )
    print(f"{report.files:,} files read, {report.wrong} wrong, errors {dict(report.errors)}")
    print(f"kills {dict(report.kills)}, store faults {report.store_faults}")
    print(f"memory MiB: first {report.memory[0] >> 20}, last {report.memory[-1] >> 20}")
    return 1 if report.wrong or report.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
