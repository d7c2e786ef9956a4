"""Draw p99 against the offered load: a line a row, the budget, and what each row holds with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.plots.style import legend_below, new_figure, save, set_log_ticks, tidy, variant_styles
from bench.statistics.rate_curve import steady_points
from bench.summary.budgets import Curves

Styles = dict[str, dict[str, Any]]
DRAWN = ("measured", "over_budget")
FARTHEST = 30
"""A row that holds no rate is tried down to a hundredth of the first: drawn is what lies within this factor below the
lowest rate that a row holds, so that the others are not pressed together."""
APART = 1.05
"""The bars of two rows stand apart by this factor, around the budget: on one line they would hide one another."""


def write_served(rows: pd.DataFrame, points: Curves, caption: str, path: Path) -> None:
    """Write the picture of one device; `rows` are those of results/serving.csv, drawn where rates were tried.

    `points`: each variant's points, process by process.
    """
    rows = rows[rows["status"].isin(DRAWN) & rows["variant"].isin(list(points))]
    if rows.empty:
        return
    figure, panels = new_figure()
    axes, styles, budget_ms = panels[0, 0], variant_styles(rows), float(rows.iloc[0]["budget_ms"])
    axes.set_xscale("log")
    axes.set_yscale("log")
    _draw_curves(axes, rows, points, styles)
    _draw_budget(axes, budget_ms)
    _draw_bars(axes, rows.dropna(subset=["requests_per_s_low"]), budget_ms, styles)
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, 10 * budget_ms))
    axes.set_xlabel("offered load (requests/s); a line a process, bars: what a row holds within the budget")
    axes.set_ylabel("p99 latency (ms)")
    set_log_ticks(axes.xaxis)
    set_log_ticks(axes.yaxis)
    tidy(axes)
    legend_below(figure, axes)
    save(figure, caption, path)


def _draw_curves(axes: Any, rows: pd.DataFrame, points: Curves, styles: Styles) -> None:
    lowest = rows["requests_per_s"].min() / FARTHEST
    for name in map(str, rows["variant"]):
        for number, process in enumerate(points[name]):
            steady = [point for point in steady_points(process)[0] if not point.rate < lowest]
            rates, p99_ms = [point.rate for point in steady], [point.p99_ms for point in steady]
            label = name if number == 0 else None
            axes.plot(rates, p99_ms, markersize=4, linewidth=1.1, label=label, **styles[name])


def _draw_budget(axes: Any, budget_ms: float) -> None:
    axes.axhline(budget_ms, color="black", linewidth=1, linestyle=":")
    place = {"xy": (1, budget_ms), "xycoords": ("axes fraction", "data"), "ha": "right"}
    axes.annotate(f"budget {budget_ms:g} ms", **place, xytext=(0, 4), textcoords="offset points", fontsize=8)


def _draw_bars(axes: Any, held: pd.DataFrame, budget_ms: float, styles: Styles) -> None:
    for place, row in enumerate(held.itertuples()):
        height = budget_ms * APART ** ((len(held) - 1) / 2 - place)
        limits = [[row.requests_per_s - row.requests_per_s_low], [row.requests_per_s_high - row.requests_per_s]]
        colour = styles[str(row.variant)]["color"]
        axes.errorbar([row.requests_per_s], [height], xerr=limits, capsize=4, linewidth=2, color=colour)
