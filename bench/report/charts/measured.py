"""What the charts of a device are made of, as plain records."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from bench.findings.models import Panel, PrecisionSpeedup, Served
from bench.report.columns import proof_text
from bench.report.shown import Context
from bench.report.words import milliseconds
from bench.statistics.rate_curve import steady_points
from bench.summary.serving import Curves
from bench.summary.table_file import is_missing

Record = dict[str, Any]
COLUMNS = (
    *("variant", "runtime", "precision", "batch_size", "verdict"),
    *("p50_ms", "p50_low_ms", "p50_high_ms", "p95_ms", "p95_low_ms", "p95_high_ms"),
    *("samples_per_s", "samples_per_s_low", "samples_per_s_high"),
    *("accuracy", "accuracy_low", "accuracy_high", "tokens_computed", "gpu_busy_ms", "matrix_share"),
)
"""Of results/summary.csv."""


@dataclass(frozen=True)
class Measured:
    """One device's measured rows of results/summary.csv, with what else of them is drawn.

    `panel`: what they show.  `runs`: the single runs of each variant: process, batch, run, latency_ms.  `curves`: the
    points of each served row.  `counts`: how many sentences have how many tokens.
    """

    panel: Panel
    rows: pd.DataFrame
    context: Context
    runs: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    counts: pd.DataFrame | None = None

    @cached_property
    def cells(self) -> list[Record]:
        """One record for each variant and batch size."""
        return list(map(_cell, self.rows.itertuples()))

    def chosen(self) -> dict[str, list[str]]:
        """Return the runtimes and precisions that the page's reader chooses from."""
        return {f"{name}s": sorted(map(str, self.rows[name].unique())) for name in ("runtime", "precision")}


def _cell(row: Any) -> Record:
    texts = {"padding": row.padding, "proof": proof_text(row._asdict())}
    label = f"{row.variant}, {milliseconds(row.p50_ms)} ms"
    return {**{name: written(getattr(row, name, None)) for name in COLUMNS}, **texts, "label": label}


def written(value: Any) -> Any:
    """Return a value that JSON can hold: floats with six significant digits, None where it is missing."""
    if is_missing(value):
        return None
    return float(f"{value:.6g}") if isinstance(value, float) else value


def speed_ups(found: Iterable[PrecisionSpeedup]) -> Iterator[Record]:
    """Yield the speed-up of each lower precision over FP32 of the same runtime and padding, for each batch size."""
    for each in found:
        same = {"variant": f"{each.runtime} {each.precision}", **each.model_dump(exclude={"by_batch"})}
        for size, ratio in each.by_batch.items():
            limits = {name: ratio.interval and written(getattr(ratio.interval, name)) for name in ("low", "high")}
            yield {**same, "verdict": ratio.verdict, "batch_size": size, "speed_up": written(ratio.value), **limits}


def loads(curves: Curves) -> list[Record]:
    """Return every rate that was tried without overload, with its latencies, row by row."""
    return [
        {"variant": variant, **{name: written(getattr(point, name)) for name in ("rate", "p50_ms", "p99_ms")}}
        for variant, curve in curves.items()
        for point in steady_points(curve)[0]
    ]


def sustained(served: Served) -> list[Record]:
    """Return the rate that each row sustains within each latency budget, with its interval, most requests first."""
    return [
        {"variant": row.variant, "budget_ms": budget.budget_ms, "rate": written(row.requests_per_s)}
        | {name: written(end or row.requests_per_s) for name, end in (("low", row.low), ("high", row.high))}
        for budget in served.budgets
        for row in budget.rows
    ]
