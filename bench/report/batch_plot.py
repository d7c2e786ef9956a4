"""Draw latency or throughput by batch size, a line a variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.style import distances, label_ends, new_figure, save, set_log_ticks, tidy, variant_styles


def write_by_batch(rows: pd.DataFrame, column: str, label: str, caption: str, path: Path) -> None:
    """Write one line a variant with 95% intervals as error bars."""
    figure, panels = new_figure()
    axes = panels[0, 0]
    styles = variant_styles(rows)
    ends = []
    for variant, cells in rows.groupby("variant", sort=False):
        series = cells.sort_values("batch_size")
        style = styles[str(variant)]
        bars = _error_bars(series, column)
        axes.errorbar(series["batch_size"], series[column], yerr=bars, linewidth=1.6, markersize=5, capsize=3, **style)
        ends.append((float(rows["batch_size"].max()), float(series[column].iloc[-1]), str(variant), style["color"]))
    sizes = sorted(rows["batch_size"].unique())
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("batch size")
    axes.set_ylabel(label)
    set_log_ticks(axes.yaxis)
    tidy(axes)
    label_ends(axes, ends)
    save(figure, caption, path)


def _error_bars(series: pd.DataFrame, column: str) -> Any:
    """Return the distances `[2, cells]` down and up to the 95% interval of p50, or of batch size / p50."""
    low, high = series["p50_low_ms"].astype(float), series["p50_high_ms"].astype(float)
    if column == "samples_per_s":
        low, high = series["batch_size"] * 1000 / high, series["batch_size"] * 1000 / low
    return distances(series[column], low, high)
