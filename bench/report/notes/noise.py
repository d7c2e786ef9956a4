"""How much of what was measured is noise, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.report.figures import percent, ratio
from bench.summary.comparisons import process_medians

STEADY = 1.1
"""Up to this ratio of a cell's slowest to its fastest loop, a CPU counts as steady."""


def noise_lines(rows: pd.DataFrame) -> Iterator[str]:
    """Yield what the control, the processes, the host's own speed and other load say about one device's rows."""
    yield from _control(rows)
    yield from _spread(rows)
    yield from _host(rows)
    yield f"- Other processes kept at most {rows['other_load_cores'].max():.2f} cores busy while a variant was timed."


def _control(rows: pd.DataFrame) -> Iterator[str]:
    """Say how the baseline came out when it was measured once more at the end, and what counts as noise."""
    again = rows[rows["variant"] == rows["baseline"]].dropna(subset=["control_ratio"]).sort_values("batch_size")
    if again.empty:
        return
    parts = [f"{ratio(row.control_ratio)} at batch {row.batch_size}" for row in again.itertuples()]
    yield (
        f"- Control: measured once more after everything else, `{again['variant'].iloc[0]}` took {', '.join(parts)} of "
        f"its first p50. With the spread between processes this gives a noise floor of "
        f"{percent(again['noise_floor'].iloc[0])}."
    )


def _spread(rows: pd.DataFrame) -> Iterator[str]:
    """Say how far the processes of one cell are apart."""
    spreads = {f"`{row.variant}` batch {row.batch_size}": _relative_spread(row) for row in rows.itertuples()}
    widest = max(spreads, key=lambda name: spreads[name])
    median = pd.Series(spreads).median()
    yield (
        f"- Between the processes of a cell, the slowest median is {percent(median)} above the fastest "
        f"(median over cells); at most {percent(spreads[widest])}, at {widest}."
    )


def _relative_spread(row: Any) -> float:
    medians = process_medians(row)
    return max(medians) / min(medians) - 1 if medians else 0.0


def _host(rows: pd.DataFrame) -> Iterator[str]:
    """Say whether the CPU's speed was steady while a fixed loop was timed before and after each cell."""
    ratios = (rows["host_loop_max_ms"].astype(float) / rows["host_loop_min_ms"].astype(float)).dropna()
    if ratios.empty:
        return
    line = (
        "- A fixed loop on the CPU, timed before and after each cell in each process: its slowest time of a cell is "
        f"{ratio(ratios.median())} its fastest (median over cells), at most {ratio(ratios.max())}"
    )
    if ratios.median() <= STEADY:
        yield f"{line}. The CPU's speed was steady."
    else:
        yield (
            f"{line}. The CPU itself changes its speed (its clock, or other guests on the same cores), and calls that "
            "wait for it change with it."
        )
