"""Draw latency or throughput by batch size, a line a variant."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.plots.style import (
    distances,
    draw_variants,
    height_for_names,
    label_ends,
    new_figure,
    save,
    set_batch_axis,
    variant_styles,
)


def write_by_batch(rows: pd.DataFrame, column: str, label: str, caption: str, path: Path) -> None:
    """Write one line a variant with 95% intervals as error bars."""
    figure, panels = new_figure(height_inches=height_for_names(rows["variant"].nunique()))
    axes = panels[0, 0]
    sizes = sorted(rows["batch_size"].unique())
    bars = partial(_error_bars, column)
    ends = draw_variants(axes, rows, variant_styles(rows), bars, x="batch_size", y=column, linewidth=1.6, capsize=3)
    set_batch_axis(axes, sizes, label)
    label_ends(axes, sizes[-1], ends)
    save(figure, caption, path)


def _error_bars(column: str, series: pd.DataFrame) -> dict[str, Any]:
    """Return the distances `[2, cells]` down and up to the 95% interval of p50, or of batch size / p50."""
    low, high = series["p50_low_ms"].astype(float), series["p50_high_ms"].astype(float)
    if column == "samples_per_s":
        low, high = series["batch_size"] * 1000 / high, series["batch_size"] * 1000 / low
    return {"yerr": distances(series[column], low, high)}
