"""What the charts of a device are made of, as plain records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from bench.report.context import Context
from bench.report.fastest import padding_of
from bench.report.figures import milliseconds
from bench.report.notes.assumptions import by_padding, plain
from bench.report.page.data import proof_text
from bench.statistics.rate_curve import steady_points
from bench.summary.budgets import Curves
from bench.summary.comparisons import compare
from bench.summary.table_file import is_missing

Record = dict[str, Any]
COLUMNS = (
    *("variant", "runtime", "precision", "batch_size", "verdict"),
    *("p50_ms", "p50_low_ms", "p50_high_ms", "p95_ms", "p95_low_ms", "p95_high_ms"),
    *("samples_per_s", "samples_per_s_low", "samples_per_s_high"),
    *("accuracy", "accuracy_low", "accuracy_high", "tokens_computed", "gpu_busy_ms", "matrix_share"),
)
"""Of results/summary.csv."""
LOWER_PRECISIONS = ("tf32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Measured:
    """One device's measured rows of results/summary.csv, with what else of them is drawn.

    `runs`: the single runs of each variant: process, batch, run, latency_ms.  `curves`: the points of each served row's
    processes.  `answers`: for each latency budget, the rows that sustain a rate.  `counts`: how many sentences have how
    many tokens.
    """

    device: str
    rows: pd.DataFrame
    context: Context
    runs: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    answers: Mapping[str, Any] | None = None
    counts: pd.DataFrame | None = None

    @cached_property
    def cells(self) -> list[Record]:
        """One record for each variant and batch size."""
        return [_cell(row) for row in self.rows.itertuples()]

    def chosen(self) -> dict[str, list[str]]:
        """Return the runtimes and precisions that the page's reader chooses from."""
        return {f"{name}s": sorted(map(str, self.rows[name].unique())) for name in ("runtime", "precision")}


def _cell(row: Any) -> Record:
    texts = {"padding": padding_of(row), "proof": proof_text(row)}
    label = f"{row.variant}, {milliseconds(row.p50_ms)} ms"
    return {**{name: written(getattr(row, name, None)) for name in COLUMNS}, **texts, "label": label}


def written(value: Any) -> Any:
    """Return a value that JSON can hold: floats with six significant digits, None where it is missing."""
    if is_missing(value):
        return None
    return float(f"{value:.6g}") if isinstance(value, float) else value


def speed_ups(rows: pd.DataFrame) -> Iterator[Record]:
    """Yield the speed-up of each lower precision over FP32 of the same runtime and padding, for each batch size."""
    by_key: dict[Any, dict[str, Any]] = {}
    for row in by_padding(plain(rows)).itertuples():
        by_key.setdefault((row.runtime, row.padding, row.batch_size), {}).setdefault(str(row.precision), row)
    for (runtime, padding, size), by_precision in by_key.items():
        for precision in [name for name in LOWER_PRECISIONS if {name, "fp32"} <= by_precision.keys()]:
            found = compare(by_precision[precision], by_precision["fp32"])
            low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
            figures = {"speed_up": found.value, "low": low, "high": high, "batch_size": size}
            label = {"variant": f"{runtime} {precision}", "precision": precision, "verdict": found.verdict}
            same = {"runtime": runtime, "padding": padding}
            yield {**label, **same, **{name: written(value) for name, value in figures.items()}}


def loads(curves: Curves) -> list[Record]:
    """Return every rate that was tried without overload, with its latencies, process by process."""
    return [
        {"variant": str(variant), "process": f"{variant} {place + 1}"}
        | {name: written(getattr(point, name)) for name in ("rate", "p50_ms", "p99_ms")}
        for variant, processes in curves.items()
        for place, process in enumerate(processes)
        for point in steady_points(process)[0]
    ]


def sustained(answers: Mapping[str, Any]) -> list[Record]:
    """Return the rate that each row sustains within each latency budget, with its interval, most requests first."""
    return [
        {"variant": row["row"], "budget_ms": step["budget_ms"], "rate": written(row["per_s"])}
        | {end: written(row["per_s"] if row[end] is None else row[end]) for end in ("low", "high")}
        for step in answers["steps"]
        for row in step["rows"]
    ]
