"""The report of a run: README.md, results.json, and one plot per case as SVG and PNG."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from tests.bench.cases import Case
from tests.bench.results import BARS, Results, Summary, Verdict, judge

PRIMARY = (
    "first epoch",
    "later epochs",
    "entries",
    "throughput",
    "reads",
    "dropped epoch",
    "files",
    "peak PSS",
)
"""Quantities that are drawn; the others are in the tables."""


def write_report(results: Results, out: Path, cases: Mapping[str, Case], seconds: float) -> None:
    """Writes everything into ``out``, made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    machine = describe_machine() | {"run_seconds": f"{seconds:.0f}"}
    document = {"machine": machine, **results.as_json()}
    (out / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    plots = draw_plots(results, out, cases)
    (out / "README.md").write_text(markdown(results, cases, machine, plots))


def describe_machine() -> dict[str, str]:
    """What figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def markdown(results: Results, cases: Mapping[str, Case], machine: Mapping[str, str], plots: set[str]) -> str:
    """The whole page."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`python -m tests.bench`); every figure is in [results.json](results.json).",
        "Ratios within one run count; absolute figures depend on the machine: "
        + ", ".join(f"{key} {value}" for key, value in machine.items())
        + ".",
        "",
        *_method(),
        "## Bars",
        "",
        "| Bar | Measured | Reference | Ratio | Reached |",
        "|---|---:|---:|---:|---|",
        *(_bar_row(verdict) for verdict in judge(results, BARS)),
        "",
    ]
    rows = results.summaries()
    for name, case in cases.items():
        if any(row.case == name for row in rows):
            lines += _section(case, [row for row in rows if row.case == name], name in plots)
    if results.notes:
        lines += ["## Notes of this run", "", *(f"- {_one_line(note)}" for note in results.notes), ""]
    return "\n".join(lines)


def _method() -> list[str]:
    return [
        "## How it is measured",
        "",
        "- The store is nginx on the same cores: static objects, listings in Lua, 20 ms before every answer"
        " (0 where a case says so). Its files are locked in memory, where the user may lock as much, but for"
        " the case that drops the page cache. No page that a contestant fills is, nor is any of the local"
        " directory (which consists of the same files) while it is measured, but in the case that says so.",
        "- 4,000 JPEGs of about 70 KB in 100 classes, shuffled, batches of 32, torchvision's unmodified"
        " `ImageFolder`; *raw* reads the bytes, *decode* is RandomResizedCrop(224) and ToTensor.",
        "- Every round takes all contestants, in rotated order, each with a fresh store, mount, cache and"
        " training program. Later epochs follow in the same program.",
        "- rclone, s3fs and S3MapDataset take part in one round; an epoch of theirs that takes longer than"
        " 10 s is cut there: its rate counts, and no later epoch follows.",
        "- JuiceFS reads a copy that its own `sync` wrote, through the same store (its metadata are local);"
        " OssMapDataset gets whole batches of indices from PyTorch's loader (`__getitems__`).",
        "- *Without store*: the epoch's seconds minus the CPU seconds of the store's processes during the"
        " epoch divided by the number of cores: what the epoch would have taken had the store run elsewhere"
        " and the cores been busy throughout.",
        "- *known order*: the program's sampler tells the mount its order in `set_epoch`, when the epoch's"
        " time has begun and before the loader starts its workers.",
        "- *program CPU* is the training program with its loader workers, the connectors inside it."
        " PSS and CPU are sums over all processes of a mount.",
        "",
    ]


def _bar_row(verdict: Verdict) -> str:
    passed = {True: "yes", False: "**no**", None: "not measured"}[verdict.passed]
    reference = f"{_number(verdict.reference)} ({verdict.reference_name})"
    ratio = "" if verdict.ratio is None else f"{verdict.ratio:.2f}"
    return f"| {verdict.text} | {_number(verdict.measured)} | {reference} | {ratio} | {passed} |"


def _section(case: Case, rows: list[Summary], drawn: bool) -> list[str]:
    lines = [f"## {case.title}", ""]
    if drawn:
        lines += [f"![{case.title}]({case.name}.svg)", ""]
    lines += [
        "| Contestant | Quantity | Median | Min | Max | n | Ratio to ossmount |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    ours = {row.quantity: row.median for row in rows if row.contestant == "ossmount"}
    for row in sorted(rows, key=lambda row: case.contestants.index(row.contestant)):
        base = ours.get(row.quantity)
        ratio = f"{row.median / base:.2f}" if base else ""
        figures = " | ".join(_number(value) for value in (row.median, row.least, row.most))
        lines.append(
            f"| {row.contestant} | {row.quantity} ({row.unit}) | {figures} | {row.rounds} | {ratio} |"
        )
    return [*lines, ""]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def draw_plots(results: Results, out: Path, cases: Mapping[str, Case]) -> set[str]:
    """One plot per case; none where matplotlib is not installed. Returns the cases drawn."""
    if find_spec("matplotlib") is None:
        results.note("no plots: matplotlib is not installed (pip install 'ossmount[bench]')")
        return set()
    drawn = set()
    for name, case in cases.items():
        rows = [row for row in results.summaries() if row.case == name and row.quantity in PRIMARY]
        if rows:
            _draw(case, rows, out)
            drawn.add(name)
    return drawn


def _draw(case: Case, rows: list[Summary], out: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = case.name  # the same figures make the same file
    import matplotlib.pyplot as plt

    quantities = list(dict.fromkeys(row.quantity for row in rows))
    names = [name for name in case.contestants if any(row.contestant == name for row in rows)]
    figure, axes = plt.subplots(
        1,
        len(quantities),
        figsize=(4.5 * len(quantities), 0.5 + 0.4 * len(names)),
        squeeze=False,
        sharey=True,
    )
    for axis, quantity in zip(axes[0], quantities, strict=True):
        for row in (row for row in rows if row.quantity == quantity):
            spread = [[row.median - row.least], [row.most - row.median]]
            color = "#d2691e" if row.contestant.startswith("ossmount") else "#8090a0"
            axis.barh([row.contestant], [row.median], xerr=spread, color=color, capsize=3)
        axis.set_title(f"{quantity} ({next(r.unit for r in rows if r.quantity == quantity)})", fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(out / f"{case.name}.svg", metadata={"Date": None})
    figure.savefig(out / f"{case.name}.png", dpi=110)
    plt.close(figure)
