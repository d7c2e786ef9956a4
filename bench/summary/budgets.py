"""What rows hold within other latency budgets than the configured one, from the rates that were tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean

import pandas as pd

from bench.core.files import read_model
from bench.core.paths import SERVED
from bench.core.reports import Served
from bench.statistics.rate_curve import Point, crossing
from bench.summary.panels import NOISE
from bench.summary.serving import points_of, with_intervals
from bench.summary.table_file import Row

Curves = Mapping[str, Sequence[Sequence[Point]]]
"""The points of each served row, process by process."""
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Budgets are these multiples of powers of ten."""
LEAST, MOST = 0.1, 5.0
"""As shares of the configured budget: further off nothing was searched for."""
CARRIED = ("variant", "device", "padding", "precision", "runtime", "session", "margin", "gpu_mib", "host_mib")
COLUMNS = (
    *CARRIED,
    *(
        "status",
        "budget_ms",
        "requests_per_s",
        "process_per_s",
        "is_least",
        "requests_per_s_low",
        "requests_per_s_high",
    ),
    *("comparisons", *NOISE),
)


def budgets_around(configured_ms: float) -> list[float]:
    """Return round budgets around the configured one, and itself, in milliseconds."""
    powers = (10.0**power for power in range(-3, 7))
    steps = (step * power for power in powers for step in STEPS)
    found = {float(f"{ms:.6g}") for ms in steps if LEAST * configured_ms <= ms <= MOST * configured_ms}
    return sorted(found | {configured_ms})


def read_curves(serving: pd.DataFrame, folder: Path = SERVED) -> Curves:
    """Return the points of each row that was served, process by process, as the last run wrote them."""
    keys = [str(name) for name in serving["variant"]]
    return curves_of(
        {key: read_model(folder / f"{key}.json", f"`dvc repro -f serve@{key}` serves it again", Served) for key in keys}
    )


def curves_of(reports: Mapping[str, Served]) -> Curves:
    """Return the points of the rows that were served, process by process, from their reports under load."""
    return {
        key: [points_of(process) for process in report.processes] for key, report in reports.items() if report.processes
    }


def within_budgets(serving: pd.DataFrame, curves: Curves) -> pd.DataFrame:
    """Return a row for each served variant and budget within which every process of it holds a rate.

    `serving`: results/serving.csv.  The columns are those that a comparison of rates needs, with the budget.
    """
    rows = pd.DataFrame(_rows(serving.to_dict("records"), curves), columns=list(COLUMNS))
    tables = [
        with_intervals(together.reset_index(drop=True), float(together["margin"].iloc[0]))
        for _, together in rows.groupby("budget_ms")
    ]
    return pd.concat(tables, ignore_index=True) if tables else rows


def _rows(serving: list[Row], curves: Curves) -> Iterator[Row]:
    for row in serving:
        processes = curves.get(str(row["variant"]), ())
        for budget_ms in budgets_around(float(row["budget_ms"])) if processes else ():
            found = [each for each in (crossing(points, budget_ms) for points in processes) if each]
            if len(found) == len(processes):
                yield {
                    **{name: row[name] for name in CARRIED},
                    "status": "measured",
                    "budget_ms": budget_ms,
                    "requests_per_s": geometric_mean(each.rate for each in found),
                    "process_per_s": " ".join(f"{each.rate:.6g}" for each in found),
                    "is_least": any(each.is_least for each in found),
                }
