"""Draw latency and throughput by batch size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.files import replacing_folder
from bench.report.causes_plot import write_causes
from bench.report.context import Context
from bench.report.table import PANELS

FIGURES = {
    "latency_by_batch": ("p50_ms", "p50 latency (ms)"),
    "throughput_by_batch": ("samples_per_s", "throughput (samples/s)"),
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's colours (2008), told apart with any colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def write_plots(table: pd.DataFrame, context: Context, folder: Path) -> None:
    """Write one PNG for each of FIGURES and each device with measured rows."""
    with replacing_folder(folder) as target:
        for name, (column, label) in FIGURES.items():
            for device in PANELS:
                rows = table[(table["device"] == device) & (table["status"] == "measured")]
                if len(rows):
                    _draw(rows, column, label, _caption(device, context), target / f"{device}_{name}.png")
        for device in PANELS:
            rows = table[(table["device"] == device) & (table["status"] == "measured")]
            write_causes(rows, device, _caption(device, context), target / f"{device}_causes.png")


def _caption(device: str, context: Context) -> str:
    versions = context.environment["versions"]
    hardware = context.device(device).split(", driver")[0]
    libraries = f"PyTorch {versions['torch']}, ONNX Runtime {versions['onnxruntime']}"
    return f"{hardware}\n{libraries}; {context.provenance['model']}"


def _draw(rows: pd.DataFrame, column: str, label: str, caption: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120, layout="constrained")
    ends = []
    for place, (variant, cells) in enumerate(rows.groupby("variant", sort=False)):
        series = cells.sort_values("batch_size")
        style: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        axes.errorbar(
            series["batch_size"],
            series[column],
            yerr=_error_bars(series, column),
            linewidth=1.6,
            markersize=5,
            capsize=3,
            **style,
        )
        ends.append((float(series[column].iloc[-1]), str(variant), style["color"]))
    _set_axes(axes, sorted(rows["batch_size"].unique()), label)
    _label_ends(axes, max(rows["batch_size"]), ends)
    figure.suptitle(caption, fontsize=8, x=0.01, ha="left")
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _error_bars(series: pd.DataFrame, column: str) -> Any:
    """Return the distances `[2, cells]` down and up to the 95% interval of p50, or of batch size / p50."""
    low, high = series["p50_low_ms"].astype(float), series["p50_high_ms"].astype(float)
    if column == "samples_per_s":
        low, high = series["batch_size"] * 1000 / high, series["batch_size"] * 1000 / low
    value = series[column].astype(float)
    return [(value - low).clip(lower=0).fillna(0), (high - value).clip(lower=0).fillna(0)]


def _set_axes(axes: Any, sizes: list[int], label: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("batch size")
    axes.set_ylabel(label)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _label_ends(axes: Any, last_size: int, ends: Iterable[tuple[float, str, str]]) -> None:
    """Write each variant's name at the end of its line, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (high / low) ** 0.05
    previous = 0.0
    for value, variant, colour in sorted(ends):
        height = max(value, previous * gap)
        axes.annotate(
            variant,
            (last_size, height),
            xytext=(8, 0),
            textcoords="offset points",
            color=colour,
            fontsize=8,
            va="center",
        )
        previous = height
