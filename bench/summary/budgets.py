"""What rows hold within other latency budgets than the configured one, from the rates that were tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

import pandas as pd

from bench.core.reports import Served
from bench.statistics.rate_curve import Point, crossing
from bench.summary.serving import points_of, with_intervals
from bench.summary.table_file import Rows

Curves = Mapping[str, Sequence[Sequence[Point]]]
"""The points of each served row, process by process."""
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Budgets are these multiples of powers of ten."""
LEAST, MOST = 0.1, 5.0
"""As shares of the configured budget: further off nothing was searched for."""


@dataclass(frozen=True)
class Tables:
    """What a run's findings are made of: its rows with their levels, timed and under load, and the tried rates."""

    summary: pd.DataFrame
    serving: pd.DataFrame
    curves: Curves


def budgets_around(configured_ms: float) -> list[float]:
    """Return round budgets around the configured one, and itself, in milliseconds."""
    powers = (10.0**power for power in range(-3, 7))
    steps = (step * power for power in powers for step in STEPS)
    found = {float(f"{ms:.6g}") for ms in steps if LEAST * configured_ms <= ms <= MOST * configured_ms}
    return sorted(found | {configured_ms})


def curves_of(reports: Mapping[str, Served]) -> Curves:
    """Return the points of the rows that were served, process by process, from their reports under load."""
    return {
        key: [points_of(process) for process in report.processes] for key, report in reports.items() if report.processes
    }


def within_budgets(tried: Rows, curves: Curves) -> Iterator[tuple[float, Rows]]:
    """Yield each budget with a row for each served variant of which every process sustains a rate within it.

    `tried`: the rows of one device in results/serving.csv; the rows have what a comparison of rates needs.
    """
    served = [row for row in tried if curves.get(str(row.variant)) and row.budget_ms]
    for budget_ms in budgets_around(float(served[0].budget_ms)) if served else ():
        found = [each for row in served if (each := _within(row, curves[str(row.variant)], budget_ms))]
        table = pd.DataFrame(found, columns=served[0]._fields).drop(columns="Index")
        yield budget_ms, list(with_intervals(table).itertuples())


def _within(row: Any, processes: Sequence[Sequence[Point]], budget_ms: float) -> Any:
    """Return a row with its figures within a budget; None where a process of it sustains no rate."""
    found = [each for each in (crossing(points, budget_ms) for points in processes) if each]
    if len(found) < len(processes):
        return None
    return row._replace(
        status="measured",
        requests_per_s=geometric_mean(each.rate for each in found),
        process_per_s=" ".join(f"{each.rate:.6g}" for each in found),
        is_least=any(each.is_least for each in found),
    )
