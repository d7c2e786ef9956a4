"""Draw what a call's time goes into: the GPU's work and the wait for the host, or matrix products and the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.plots.style import new_figure, save

PARTS = {
    "cuda": ("gpu_busy_ms", "GPU works", "GPU waits for the host"),
    "cpu": ("matrix_ms", "matrix products", "everything else"),
}
WORK, REST = "#0072B2", "#E69F00"
BAR_INCHES = 0.32


def write_causes(rows: pd.DataFrame, device: str, caption: str, path: Path) -> None:
    """Write a stacked bar a variant, at the smallest and the largest batch size; nothing without a profiling pass."""
    column, work_label, rest_label = PARTS[device]
    known = rows.assign(matrix_ms=rows["matrix_share"].astype(float) * rows["p50_ms"]).dropna(subset=[column])
    if known.empty:
        return
    from matplotlib.patches import Patch

    sizes = sorted({known["batch_size"].min(), known["batch_size"].max()})
    bars = known["variant"].nunique()
    figure, panels = new_figure(1, len(sizes), 1.6 + BAR_INCHES * bars)
    for axes, size in zip(panels[0], sizes, strict=True):
        _bars(axes, known[known["batch_size"] == size], column, int(size))
    handles = [Patch(color=colour) for colour in (WORK, REST)]
    figure.legend(handles, [work_label, rest_label], loc="outside lower left", ncols=2, fontsize=8, frameon=False)
    save(figure, caption, path)


def _bars(axes: Any, rows: pd.DataFrame, column: str, batch_size: int) -> None:
    ordered = rows.sort_values("p50_ms", ascending=False)
    work = ordered[column].astype(float).clip(upper=ordered["p50_ms"].astype(float))
    axes.barh(ordered["variant"], work, color=WORK)
    axes.barh(ordered["variant"], ordered["p50_ms"].astype(float) - work, left=work, color=REST)
    for place, (total, part) in enumerate(zip(ordered["p50_ms"], work, strict=True)):
        axes.annotate(
            f"{part / total:.0%}", (total, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7
        )
    axes.set_title(f"batch {batch_size}", fontsize=9)
    axes.set_xlabel("p50 latency (ms)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
