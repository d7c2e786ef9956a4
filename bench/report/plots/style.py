"""What all plots share: colours that everyone can tell apart, markers, captions, and how a picture is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.context import Context

End = tuple[float, str, str]
"""y, name and colour of a line's end."""
Bars = Callable[[pd.DataFrame], dict[str, Any]]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's colours (2008), told apart with any colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--")
LINE_HEIGHT = 0.05
"""The part of an axis' height that a line of text takes."""
SIZE_INCHES = (8, 4.5)
DPI = 120


def variant_styles(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return colour, marker and line of each variant, in the order of the table: the same in every plot."""
    names = list(dict.fromkeys(rows["variant"]))
    return {
        name: {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": LINES[place // len(COLOURS) % len(LINES)],
        }
        for place, name in enumerate(names)
    }


def caption(device: str, context: Context) -> str:
    """Name the device, the libraries and the model that a picture shows."""
    versions = context.environment["versions"]
    hardware = context.device(device).split(", driver")[0]
    libraries = f"PyTorch {versions['torch']}, ONNX Runtime {versions['onnxruntime']}"
    if device == "cuda" and versions.get("tensorrt"):
        libraries += f", TensorRT {versions['tensorrt']}"
    return f"{hardware}\n{libraries}; {context.provenance['model']}"


def new_figure(rows: int = 1, columns: int = 1, height_inches: float = SIZE_INCHES[1]) -> tuple[Any, Any]:
    """Return a figure and its axes `[rows, columns]`, drawn without a display."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt.subplots(
        rows, columns, figsize=(SIZE_INCHES[0], height_inches), dpi=DPI, layout="constrained", squeeze=False
    )


def save(figure: Any, text: str, path: Path) -> None:
    """Put the caption on a figure and write it; the same figure gives the same bytes."""
    import matplotlib.pyplot as plt

    figure.suptitle(text, fontsize=8, x=0.01, ha="left")
    figure.savefig(path, format="png", metadata={"Software": None})
    plt.close(figure)


def set_log_ticks(axis: Any) -> None:
    """Write plain numbers on a logarithmic axis, at 1, 1.5, 2, 3, 5 and 7 times each power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def tidy(axes: Any) -> None:
    """Leave out the frame's upper and right line and draw a faint grid."""
    axes.grid(True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def distances(value: pd.Series[float], low: pd.Series[float], high: pd.Series[float]) -> list[pd.Series[float]]:
    """Return how far values are from their limits, `[down, up]` as error bars want it; 0 where a limit is unknown."""
    value, low, high = (series.astype(float) for series in (value, low, high))
    return [(value - low).clip(lower=0).fillna(0), (high - value).clip(lower=0).fillna(0)]


def draw_variants(
    axes: Any, rows: pd.DataFrame, styles: dict[str, dict[str, Any]], bars: Bars, *, x: str, y: str, **look: Any
) -> list[End]:
    """Draw `y` over `x`, a line a variant through its batch sizes, and return the ends for `label_ends`.

    `bars` gives the error bars (xerr or yerr) of one variant's rows.
    """
    ends = []
    for variant, cells in rows.groupby("variant", sort=False):
        series = cells.sort_values("batch_size")
        style = styles[str(variant)]
        axes.errorbar(series[x], series[y], markersize=5, label=variant, **bars(series), **look, **style)
        last = series.iloc[-1]
        ends.append((float(last[y]), str(variant), style["color"]))
    return ends


def set_batch_axis(axes: Any, sizes: list[int], label: str) -> None:
    """Lay out axes whose x is the batch size and whose y, called `label`, is logarithmic."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("batch size")
    axes.set_ylabel(label)
    set_log_ticks(axes.yaxis)
    tidy(axes)


def legend_below(figure: Any, axes: Any) -> None:
    """Write the names of the lines of `axes` below the figure, where no name can cover a line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, fontsize=7, frameon=False, handlelength=3)


def label_ends(axes: Any, x: float, ends: Iterable[End]) -> None:
    """Write names beside the ends (y, name, colour) of lines at `x`, moved apart where they would touch (log axes)."""
    low, high = axes.get_ylim()
    ordered = sorted(ends)
    heights = spread_out([y for y, _, _ in ordered], gap=(high / low) ** LINE_HEIGHT, top=high)
    for (_, name, colour), height in zip(ordered, heights, strict=True):
        axes.annotate(
            name,
            (x, height),
            xytext=(8, 0),
            textcoords="offset points",
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
        )


def spread_out(ends: list[float], gap: float, top: float) -> list[float]:
    """Return a height for a name at each end (lowest first), at least the ratio `gap` apart and below `top`.

    Names are moved up where they would touch; what then stands above the top is moved down again.
    """
    heights: list[float] = []
    for end in ends:
        heights.append(max(end, heights[-1] * gap) if heights else end)
    for place in reversed(range(len(heights))):
        highest = heights[place + 1] / gap if place + 1 < len(heights) else top
        heights[place] = min(heights[place], highest)
    return heights
