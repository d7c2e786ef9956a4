"""How much of what was measured is noise, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.report.figures import percent, ratio, seconds, with_interval
from bench.report.table import STOPPED_SECONDS
from bench.summary.panels import values

STEADY = 1.1
"""Up to this ratio of a cell's slowest to its fastest loop, a CPU counts as steady."""


def noise_lines(rows: pd.DataFrame) -> Iterator[str]:
    """Yield what the control, the processes, the host's own speed and other load say about one device's rows."""
    yield from _control(rows)
    yield from _spread(rows)
    yield from _host(rows)
    yield f"- Other processes kept at most {rows['other_load_cores'].max():.2f} cores busy while a variant was timed."


def _control(rows: pd.DataFrame) -> Iterator[str]:
    """Say how the baseline came out against itself: the A/A row, one more process of it in every round."""
    again = rows[(rows["variant"] == rows["baseline"]) & rows["aa_ratio"].notna()].sort_values("batch_size")
    if again.empty:
        yield "- A/A row: the baseline was not timed twice, so nothing shows how much two equal rows differ here."
        return
    parts = [
        f"{with_interval(ratio, row.aa_ratio, row.aa_low, row.aa_high)}, {row.aa_verdict}, at batch {row.batch_size}"
        for row in again.itertuples()
    ]
    line = f"- A/A row: `{again['variant'].iloc[0]}` against itself, timed in the same rounds: {'; '.join(parts)}."
    if again["voided"].any():
        line += " Equal rows came out as different, so every verdict of this panel is inconclusive."
    yield line


def _spread(rows: pd.DataFrame) -> Iterator[str]:
    """Say how far the processes of one cell are apart."""
    repeated = [row for row in rows.itertuples() if len(values(row, "p50")) > 1]
    if not repeated:
        yield "- Each row was timed in one process, so nothing shows how much another process would differ."
        return
    spreads = {f"`{row.variant}` batch {row.batch_size}": _relative_spread(row) for row in repeated}
    widest = max(spreads, key=lambda name: spreads[name])
    median = pd.Series(spreads).median()
    yield (
        f"- Between the processes of a cell, the slowest median is {percent(median)} above the fastest "
        f"(median over cells); at most {percent(spreads[widest])}, at {widest}."
    )


def _relative_spread(row: Any) -> float:
    medians = list(values(row, "p50").values())
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
    stopped = rows["quota_throttled_seconds"].astype(float).sum() if "quota_throttled_seconds" in rows else 0.0
    if stopped >= STOPPED_SECONDS:
        yield f"{line}. The CPU quota stopped what was timed for {seconds(stopped)}: it sets the pace."
    elif ratios.median() <= STEADY:
        yield f"{line}. The CPU's speed was steady."
    else:
        yield (
            f"{line}. The CPU itself changes its speed (its clock, or other guests on the same cores), and calls that "
            "wait for it change with it."
        )
