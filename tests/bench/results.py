"""Measurements and what is made of them: medians, ratios, bars. Pure; prints and measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of one round."""

    case: str
    contestant: str
    quantity: str
    value: float
    unit: str
    round: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The rounds of one figure."""

    case: str
    contestant: str
    quantity: str
    unit: str
    median: float
    least: float
    most: float
    rounds: int


@dataclass
class Results:
    """Everything that a run found out."""

    measurements: list[Measurement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Who was skipped, cut off or failed, and why."""

    def note(self, text: str) -> None:
        """Keeps a remark once."""
        if text not in self.notes:
            self.notes.append(text)

    def keep_others(self, earlier: Mapping[str, Any]) -> None:
        """Takes over an earlier run's figures and notes (``as_json``) of cases not measured in this run."""
        mine = {m.case for m in self.measurements}
        kept = [Measurement(**m) for m in earlier["measurements"] if m["case"] not in mine]
        self.measurements += kept
        names = dict.fromkeys(m.case for m in kept)
        if names:
            self.note(f"kept from an earlier run: {', '.join(names)}")
        for text in earlier["notes"]:
            if text.partition(", ")[0] in names:  # see note_failure
                self.note(text)

    def note_failure(self, case: str, contestant: str, number: int, why: object) -> None:
        """Keeps a remark on one round of one contestant."""
        self.note(f"{case}, {contestant}, round {number}: {why}")

    def summaries(self) -> list[Summary]:
        """One row per case, contestant and quantity, in the order of their first appearance."""
        groups: dict[tuple[str, str, str, str], list[float]] = {}
        for m in self.measurements:
            groups.setdefault((m.case, m.contestant, m.quantity, m.unit), []).append(m.value)
        return [
            Summary(*key, statistics.median(values), min(values), max(values), len(values))
            for key, values in groups.items()
        ]

    def median(self, case: str, contestant: str, quantity: str) -> float | None:
        """The median of one figure, None where it was not measured."""
        values = self.values(case, contestant, quantity)
        return statistics.median(values) if values else None

    def values(self, case: str, contestant: str, quantity: str) -> list[float]:
        """One figure in all its rounds."""
        key = (case, contestant, quantity)
        return [m.value for m in self.measurements if (m.case, m.contestant, m.quantity) == key]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "summaries": [asdict(row) for row in self.summaries()],
            "bars": [asdict(verdict) for verdict in judge(self, BARS)],
            "notes": self.notes,
            "measurements": [asdict(m) for m in self.measurements],
        }


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of what must be reached: a figure against the best of some others, or against a number."""

    text: str
    case: str
    contestant: str
    quantity: str
    factor: float
    reference: tuple[str, ...] = ()
    """Contestants of the same case; the best of them counts."""
    reference_quantity: str = ""
    """Where it differs from ``quantity``."""
    number: float | None = None
    at_most: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar and what was measured; ``ratio`` and ``passed`` are None where something was not measured."""

    text: str
    case: str
    measured: float | None
    reference: float | None
    reference_name: str
    ratio: float | None
    bar: float
    passed: bool | None


def judge(results: Results, bars: Iterable[Bar]) -> list[Verdict]:
    """A verdict for every bar whose case was measured."""
    cases = {m.case for m in results.measurements}
    return [_judge(results, bar) for bar in bars if bar.case in cases]


def _judge(results: Results, bar: Bar) -> Verdict:
    measured = results.median(bar.case, bar.contestant, bar.quantity)
    name, reference = _reference(results, bar)
    if measured is None or reference is None:
        return Verdict(bar.text, bar.case, measured, reference, name, None, bar.factor, None)
    if reference == 0:  # what must never happen may not happen in any round
        most = max(results.values(bar.case, bar.contestant, bar.quantity))
        return Verdict(bar.text, bar.case, most, reference, name, None, bar.factor, most == 0)
    ratio = measured / reference
    passed = ratio <= bar.factor if bar.at_most else ratio >= bar.factor
    return Verdict(bar.text, bar.case, measured, reference, name, ratio, bar.factor, passed)


def _reference(results: Results, bar: Bar) -> tuple[str, float | None]:
    if bar.number is not None:
        return f"{bar.number:g}", bar.number
    found = [
        (name, value)
        for name in bar.reference
        if (value := results.median(bar.case, name, bar.reference_quantity or bar.quantity)) is not None
    ]
    return max(found, key=lambda pair: pair[1], default=("not measured", None))


_MOUNTS = ("juicefs", "rclone", "s3fs")

BARS = (
    Bar("first epoch ≥ 1.0 x OssMapDataset", "raw-8", "ossmount", "first epoch", 1.0, ("oss-connector",)),
    Bar("first epoch ≥ 8 x best other mount", "raw-8", "ossmount", "first epoch", 8.0, _MOUNTS),
    Bar(
        "first epoch, known order ≥ 1.2 x OssMapDataset",
        "raw-8",
        "ossmount-order",
        "first epoch",
        1.2,
        ("oss-connector",),
    ),
    Bar("first epoch, decoding ≥ 0.75 x local", "decode-8", "ossmount", "first epoch", 0.75, ("local",)),
    Bar(
        "first epoch, decoding, without the store's CPU ≥ 0.9 x local",
        "decode-8",
        "ossmount",
        "first epoch without store",
        0.9,
        ("local",),
        "first epoch",
    ),
    Bar("later epochs, raw ≥ 1.2 x JuiceFS", "raw-8", "ossmount", "later epochs", 1.2, ("juicefs",)),
    Bar("later epochs, decoding ≥ 0.95 x local", "decode-8", "ossmount", "later epochs", 0.95, ("local",)),
    Bar("later epochs, raw: no READ", "raw-8", "ossmount", "READs in later epochs", 0.0, number=0.0),
    Bar("later epochs, raw, pages locked: no READ", "locked", "ossmount", "READs", 0.0, number=0.0),
    Bar("construction ≥ 200k entries/s", "construction", "ossmount", "entries", 1.0, number=200_000.0),
    Bar("construction: no store request", "construction", "ossmount", "store requests", 0.0, number=0.0),
    Bar("1 GiB ≥ 0.6 x native engine", "sequential", "ossmount", "throughput", 0.6, ("native",)),
    Bar("1 GiB ≥ 3 x s3fs", "sequential", "ossmount", "throughput", 3.0, ("s3fs",)),
    Bar("1 GiB ≥ 10 x rclone", "sequential", "ossmount", "throughput", 10.0, ("rclone",)),
    Bar("random 128 KiB ≥ 0.85 x 32/20 ms", "random", "ossmount", "reads", 0.85, number=32 / 0.02),
    Bar("disk-cached, dropped ≥ 0.5 x local", "disk-cached", "ossmount", "dropped epoch", 0.5, ("local",)),
    Bar("two workers ≥ 1.3 x one", "workers", "ossmount-2", "files", 1.3, ("ossmount-1",)),
    Bar(
        "PSS of all processes ≤ 300 MB",
        "memory",
        "ossmount",
        "peak PSS",
        1.0,
        number=300.0,
        at_most=True,
    ),
)
"""The table "Must reach" of the issue that asked for this benchmark."""
