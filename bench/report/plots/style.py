"""What all plots share: colours that everyone can tell apart, markers, captions, and how a picture is written."""

from __future__ import annotations

import math
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
LINES = ("-", "--", ":", "-.")
SIZE_INCHES = (8, 4.5)
NAME_INCHES = 0.16
"""The height of a name beside the end of a line."""
ABOVE_AND_BELOW_INCHES = 1.1
"""Caption and the axis of batch sizes."""
LEGEND_INCHES = {"character": 0.058, "line": 0.6, "row": 0.15}
TICKS = ((1.3, (1, 1.5, 2, 3, 5, 7)), (2.6, (1, 2, 5)), (4.0, (1, 3)))
"""Up to how many decades an axis has ticks at which multiples of powers of ten."""
MOST_DECADES = 7
DPI = 120


def variant_styles(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return colour, marker and line of each variant, in the order of the table: the same in every plot."""
    return {name: style_of(place) for place, name in enumerate(dict.fromkeys(rows["variant"]))}


def style_of(place: int) -> dict[str, Any]:
    """Return colour, marker and line of the line at a place: when the colours begin anew, the other two change."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[(place + place // len(COLOURS)) % len(MARKERS)],
        "linestyle": LINES[place // len(COLOURS) % len(LINES)],
    }


def caption(device: str, context: Context) -> str:
    """Name the device, the libraries and the model that a picture shows."""
    versions = context.environment["versions"]
    hardware = context.device(device).split(", driver")[0]
    libraries = f"PyTorch {versions['torch']}, ONNX Runtime {versions['onnxruntime']}"
    if device == "cpu" and versions.get("openvino"):
        libraries += f", OpenVINO {versions['openvino']}"
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
    """Write plain numbers on a logarithmic axis whose limits are known, the closer the fewer decades it has."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two limits, few enough to be written side by side."""
    decades = math.log10(high / low)
    multiples = next((found for most, found in TICKS if decades <= most), (1,))
    step = max(1, math.ceil(decades / MOST_DECADES))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, step)
    return [value for power in powers for value in (many * 10.0**power for many in multiples) if low <= value <= high]


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
    """Write the names of the lines of `axes` below the figure, where no name can cover a line.

    As many beside each other as fit; the figure grows by what they need.
    """
    handles, labels = axes.get_legend_handles_labels()
    width = LEGEND_INCHES["line"] + LEGEND_INCHES["character"] * max(map(len, labels), default=0)
    columns = max(1, int(SIZE_INCHES[0] / width))
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_INCHES["row"] * max(0, rows - FREE_ROWS))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=7, frameon=False, handlelength=3)


FREE_ROWS = 3
"""Rows of a legend that the usual height has room for."""


def height_for_names(count: int) -> float:
    """Return the height of a figure, in inches, that has room for so many names at the ends of lines."""
    return max(SIZE_INCHES[1], ABOVE_AND_BELOW_INCHES + NAME_INCHES * count)


def label_ends(axes: Any, x: float, ends: Iterable[End]) -> None:
    """Write names beside the ends (y, name, colour) of lines at `x`, moved apart where they would touch (log axes)."""
    low, high = axes.get_ylim()
    ordered = sorted(ends)
    line_height = NAME_INCHES / (axes.figure.get_figheight() - ABOVE_AND_BELOW_INCHES)
    heights = spread_out([y for y, _, _ in ordered], gap=(high / low) ** line_height, top=high)
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
