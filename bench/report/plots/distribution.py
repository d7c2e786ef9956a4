"""Draw how single runs are distributed: the share of runs that took no longer than each latency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.report.plots.style import legend_below, new_figure, save, set_log_ticks, tidy, variant_styles

TAIL = 0.999
"""The axis ends where 99.9% of the slowest variant's runs are done, so that one outlier does not squeeze the rest."""


def write_distribution(rows: pd.DataFrame, runs: dict[str, pd.DataFrame], caption: str, path: Path) -> None:
    """Write the empirical distributions at the smallest and the largest batch size; `runs` by variant."""
    sizes = sorted({rows["batch_size"].min(), rows["batch_size"].max()})
    figure, panels = new_figure(1, len(sizes))
    styles = variant_styles(rows)
    for axes, size in zip(panels[0], sizes, strict=True):
        ends = []
        for variant in rows.loc[rows["batch_size"] == size, "variant"]:
            table = runs[variant]
            latencies = np.sort(table.loc[table["batch"] == size, "latency_ms"].to_numpy(dtype=float))
            shares = np.arange(1, len(latencies) + 1) / len(latencies)
            style = {name: styles[variant][name] for name in ("color", "linestyle")}
            axes.step(latencies, shares, where="post", linewidth=1.4, label=variant, **style)
            ends.append(float(np.quantile(latencies, TAIL)))
        axes.set_xscale("log")
        axes.set_xlim(axes.get_xlim()[0], max(ends) * 1.1)
        axes.set_title(f"batch {size}", fontsize=9)
        axes.set_xlabel("latency of one call (ms)")
        set_log_ticks(axes.xaxis)
        axes.tick_params(axis="x", labelsize=7)
        tidy(axes)
    panels[0, 0].set_ylabel("share of runs")
    legend_below(figure, panels[0, 0])
    save(figure, caption, path)
