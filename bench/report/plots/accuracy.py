"""Draw accuracy against latency: what a faster row costs in right answers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.report.plots.style import distances, legend_below, new_figure, save, set_log_ticks, tidy, variant_styles


def write_accuracy(rows: pd.DataFrame, caption: str, path: Path) -> None:
    """Write a point a variant at the smallest batch size, with 95% intervals; nothing where no accuracy is known."""
    if "accuracy_low" not in rows or rows["accuracy_low"].isna().all():
        return
    known = rows[rows["batch_size"] == rows["batch_size"].min()].dropna(subset=["accuracy_low"])
    figure, panels = new_figure()
    axes = panels[0, 0]
    styles = variant_styles(rows)
    for variant, point in known.groupby("variant", sort=False):
        axes.errorbar(
            point["p50_ms"],
            100 * point["accuracy"],
            xerr=distances(point["p50_ms"], point["p50_low_ms"], point["p50_high_ms"]),
            yerr=distances(100 * point["accuracy"], 100 * point["accuracy_low"], 100 * point["accuracy_high"]),
            label=variant,
            markersize=6,
            capsize=3,
            **styles[str(variant)] | {"linestyle": "none"},
        )
    axes.set_xscale("log")
    axes.set_xlabel(f"p50 latency (ms) at batch {known['batch_size'].min()}")
    axes.set_ylabel("accuracy (%), Wilson's 95% interval")
    set_log_ticks(axes.xaxis)
    tidy(axes)
    legend_below(figure, axes)
    save(figure, caption, path)
