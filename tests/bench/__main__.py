"""``python -m tests.bench``: runs cases on contestants and writes a table, plots and all figures.

python -m tests.bench [--cases raw-8 random] [--contestants ossmount juicefs] [--rounds 3]
                      [--data DIR] [--out docs/benchmarks] [--keep] [--quick]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.cases import CASES, SLOW, Case
from tests.bench.contestants import CONTESTANTS
from tests.bench.ground import QUICK, Ground, Sizes, default_data
from tests.bench.nginx_store import available
from tests.bench.processes import Ended, TooSlow
from tests.bench.report import write_report
from tests.bench.results import BARS, Measurement, Results, judge
from tests.bench.scale import SCALE

ROUNDS = 3
ALL = CASES | SCALE


def run_case(case: Case, names: list[str], rounds: int, ground: Ground, results: Results) -> None:
    """Every round takes all contestants, each time another one first: nobody has the quiet minute.

    Slow ones take part in the first round only: with them a run would take twice as long.
    """
    present = [name for name in names if _present(case, name, results)]
    for number in range(min(rounds, case.most_rounds)):
        turn = number % max(len(present), 1)
        for name in present[turn:] + present[:turn]:
            if number == 0 or case.contestant(name).name not in SLOW:
                run_round(case, name, number + 1, ground, results)


def _present(case: Case, name: str, results: Results) -> bool:
    reason = case.contestant(name).missing()
    if reason is not None:
        results.note(f"{name} skipped: {reason}")
    return reason is None


def run_round(case: Case, name: str, number: int, ground: Ground, results: Results) -> None:
    """One round of one contestant; a contestant that fails is noted and does not stop the run."""

    def report(quantity: str, value: float, unit: str) -> None:
        results.measurements.append(Measurement(case.name, name, quantity, value, unit, number))
        figures.append(f"{quantity} {value:,.4g} {unit}")

    figures: list[str] = []
    started = time.monotonic()
    try:
        case.run(ground, case.contestant(name), report)
    except (TooSlow, Ended, OSError, RuntimeError, subprocess.SubprocessError) as error:
        results.note_failure(case.name, name, number, error)
        figures.append(f"FAILED: {error}")
    print(f"{case.name:12} {name:15} #{number} {time.monotonic() - started:5.1f} s  {'; '.join(figures)}")
    sys.stdout.flush()


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=[*ALL], default=[*CASES])
    parser.add_argument("--contestants", nargs="+", help=f"of: {', '.join(CONTESTANTS)} and a case's own")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--data", type=Path, default=default_data(), help="where made data is kept")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--keep", action="store_true", help="keep what OUT has of cases not run now")
    parser.add_argument("--quick", action="store_true", help="little data, one round: does everything run?")
    return parser.parse_args(arguments)


def save(results: Results, options: argparse.Namespace, seconds: float) -> None:
    """Writes the report after every case: a run that is interrupted leaves what it has."""
    earlier = options.out / "results.json"
    written = Results([*results.measurements], [*results.notes])
    if options.keep and earlier.exists():
        written.keep_others(json.loads(earlier.read_text()))
    write_report(written, options.out, ALL, seconds)


def stop(*_: object) -> None:
    """SIGTERM ends a run as Ctrl-C does: mounts, stores and programs are taken down."""
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Runs; 0 unless nothing could be measured. A bar that is missed is a finding, not a failure."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, stop)
    if not available():
        print("nginx with its Lua module is not installed: run packaging/bootstrap.sh --bench")
        return 1
    results, started = Results(), time.monotonic()
    sizes, rounds = (QUICK, 1) if options.quick else (Sizes(), options.rounds)
    with Ground(options.data / "quick" if options.quick else options.data, sizes) as ground:
        for case in (ALL[name] for name in options.cases):
            names = [n for n in case.contestants if not options.contestants or n in options.contestants]
            run_case(case, names, rounds, ground, results)
            save(results, options, time.monotonic() - started)
    for verdict in judge(results, BARS):
        passed = {True: "reached", False: "MISSED", None: "not measured"}[verdict.passed]
        ratio = "" if verdict.ratio is None else f"{verdict.ratio:.2f}"
        print(f"{verdict.text:62} {ratio:>6}  {passed}")
    return 0 if results.measurements else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)  # as shells count it
