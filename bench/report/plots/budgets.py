"""Draw throughput against p95 latency with the latency budgets: what is on the left of a line keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.plots.style import (
    distances,
    draw_variants,
    legend_below,
    new_figure,
    save,
    set_log_ticks,
    tidy,
    variant_styles,
)


def write_budgets(rows: pd.DataFrame, budgets_ms: Sequence[float], caption: str, path: Path) -> None:
    """Write one line a variant through its batch sizes; nothing where no p95 is known."""
    known = rows.dropna(subset=["p95_ms"])
    if known.empty:
        return
    figure, panels = new_figure()
    axes = panels[0, 0]
    styles = variant_styles(rows)
    draw_variants(axes, known, styles, _error_bars, x="p95_ms", y="samples_per_s", linewidth=1.4, capsize=2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    left, right = axes.get_xlim()
    for budget in (value for value in budgets_ms if left < value < right):
        axes.axvline(budget, color="black", linewidth=1, linestyle=":")
        axes.annotate(
            f"{budget:g} ms",
            (budget, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -10),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xlabel("p95 latency (ms); each line goes through the batch sizes, the smallest first")
    axes.set_ylabel("throughput (samples/s)")
    set_log_ticks(axes.xaxis)
    set_log_ticks(axes.yaxis)
    tidy(axes)
    legend_below(figure, axes)
    save(figure, caption, path)


def _error_bars(series: pd.DataFrame) -> dict[str, Any]:
    return {"xerr": distances(series["p95_ms"], series["p95_low_ms"], series["p95_high_ms"])}
