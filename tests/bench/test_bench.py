"""The benchmark runs end to end on a little data; its arithmetic is right on made-up figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.contestants import CONTESTANTS
from tests.bench.ground import QUICK, clean_environment
from tests.bench.nginx_store import available
from tests.bench.processes import Ended, Program, TooSlow
from tests.bench.results import Bar, Measurement, Results, judge
from tests.bench.scale import SCALE
from tests.support.mounting import needs_fuse

ROOT = Path(__file__).parents[2]


def runs_it(test: Callable[[Path], None]) -> Callable[[Path], None]:
    """Marks a test that mounts, and reads from the benchmark's own store."""
    test = pytest.mark.skipif(not available(), reason="nginx with its Lua module is not installed")(test)
    marked: Callable[[Path], None] = pytest.mark.slow(pytest.mark.fuse(pytest.mark.server(needs_fuse(test))))
    return marked


def quick_run(tmp_path: Path, *arguments: str, timeout: float) -> dict[str, Any]:
    """What a quick run of these cases (and options) wrote, in which no round failed."""
    command = [sys.executable, "-m", "tests.bench", "--quick", "--cases", *arguments]
    where = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    run = subprocess.run(
        [*command, *where],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    written: dict[str, Any] = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [note for note in written["notes"] if "round" in note] == []
    return written


@runs_it
def test_quick_run_measures_and_reports(tmp_path: Path) -> None:
    who = ["--contestants", "native", "ossmount", "ossmount-1"]
    written = quick_run(tmp_path, "random", "workers", "sequential", "locked", *who, timeout=100)
    measured = {(m["case"], m["contestant"]) for m in written["measurements"] if m["value"] > 0}
    expected = {("random", "ossmount"), ("workers", "ossmount-1"), ("sequential", "ossmount")}
    assert measured == expected | {("sequential", "native"), ("locked", "ossmount")}
    assert [m["value"] for m in written["measurements"] if m["quantity"] == "READs"] == [0]
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| 1 GiB ≥ 0.6 x native engine |" in page
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def results_of(*rows: tuple[str, float]) -> Results:
    return Results([Measurement("case", name, "rate", value, "x/s", 1) for name, value in rows])


RATE = Bar("twice the best", "case", "ours", "rate", 2.0, ("one", "other"))


@pytest.mark.parametrize(("ours", "passed"), [(20.0, True), (19.9, False)])
def test_a_bar_compares_with_the_best_reference(ours: float, passed: bool) -> None:
    (verdict,) = judge(results_of(("ours", ours), ("one", 4.0), ("other", 10.0)), [RATE])
    assert (verdict.reference_name, verdict.reference, verdict.passed) == ("other", 10.0, passed)


def test_medians_count() -> None:
    results = results_of(("ours", 1.0), ("ours", 30.0), ("ours", 20.0), ("one", 10.0))
    (verdict,) = judge(results, [RATE])
    assert (verdict.measured, verdict.ratio) == (20.0, 2.0)


def test_what_was_not_measured_is_no_verdict() -> None:
    (verdict,) = judge(results_of(("ours", 1.0)), [RATE])
    assert verdict.passed is None
    assert judge(Results(), [RATE]) == []


@pytest.mark.parametrize(("value", "passed"), [(0.0, True), (1.0, False)])
def test_a_bar_of_zero_is_of_every_round(value: float, passed: bool) -> None:
    bar = Bar("none", "case", "ours", "rate", 0.0, number=0.0)
    results = results_of(("ours", 0.0), ("ours", value), ("ours", 0.0))
    assert [v.passed for v in judge(results, [bar])] == [passed]


def test_an_upper_limit() -> None:
    bar = Bar("little", "case", "ours", "rate", 1.0, number=300.0, at_most=True)
    assert [v.passed for v in judge(results_of(("ours", 301.0)), [bar])] == [False]
    assert [v.passed for v in judge(results_of(("ours", 299.0)), [bar])] == [True]


def test_figures_of_other_cases_are_kept() -> None:
    earlier = Results([Measurement(case, "ours", "rate", 1.0, "x/s", 1) for case in ("case", "old")])
    results = results_of(("ours", 2.0))
    results.keep_others(earlier.as_json())
    assert [(m.case, m.value) for m in results.measurements] == [("case", 2.0), ("old", 1.0)]


def test_failures_of_other_cases_are_kept() -> None:
    earlier = Results([Measurement("old", "ours", "rate", 1.0, "x/s", 1)])
    for case in ("case", "old"):
        earlier.note_failure(case, "other", 1, "did not answer")
    results = results_of(("ours", 2.0))
    results.keep_others(earlier.as_json())
    assert results.notes == ["kept from an earlier run: old", "old, other, round 1: did not answer"]


def program(text: str) -> Program:
    return Program([sys.executable, "-c", text])


def test_a_program_that_hangs_is_given_up() -> None:
    with program("import time; time.sleep(60)") as hanging, pytest.raises(TooSlow):
        hanging.answer(0.1)


def test_a_program_that_fails_says_why() -> None:
    with program("raise SystemExit('no such thing')") as failing, pytest.raises(Ended, match="no such thing"):
        failing.answer(20)


def test_other_output_is_skipped() -> None:
    with program("print('noise'); print('{\"a\": 1}')") as chatty:
        assert chatty.answer(20) == {"a": 1}


def test_contestants_say_why_they_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for name in ("rclone", "s3fs", "juicefs"):
        assert f"{name} is not installed" in str(CONTESTANTS[name].missing())


@runs_it
def test_quick_run_of_many_objects(tmp_path: Path) -> None:
    """What these cases count beside rates must be right at any size."""
    written = quick_run(tmp_path, *SCALE, timeout=200)
    found = {(m["case"], m["quantity"]): m["value"] for m in written["measurements"]}
    assert found["inventory", "rows that differ"] == 0
    assert found["refresh", "errors and wrong bytes"] == 0
    assert found["refresh", "changed"] == QUICK.million // 64
    assert found["refresh", "of these of the new generation"] > 0
    assert found["huge", "walked"] == QUICK.rows // 10
    assert found["huge", "first ls"] > 0
