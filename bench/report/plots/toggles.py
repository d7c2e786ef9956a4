"""Draw what switching a precision on changed: its speed-up over FP32 of the same runtime, by batch size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.notes.assumptions import by_padding, padding_text, plain, precision_pair
from bench.report.plots.style import label_ends, new_figure, save, set_batch_axis, style_of
from bench.summary.comparisons import Comparison, compare

LOWER_PRECISIONS = ("tf32", "fp16", "bf16", "int8")
Points = list[tuple[int, Comparison]]


def write_toggles(rows: pd.DataFrame, caption: str, path: Path) -> None:
    """Write one line for each runtime and precision; nothing where no runtime has two precisions."""
    lines = dict(_toggles(rows))
    if not lines:
        return
    figure, panels = new_figure()
    axes = panels[0, 0]
    sizes = sorted(rows["batch_size"].unique())
    ends = []
    for place, (name, points) in enumerate(lines.items()):
        style = style_of(place)
        batches = [size for size, _ in points]
        values = [found.value for _, found in points]
        axes.errorbar(batches, values, yerr=_bars(points), capsize=3, **style)
        ends.append((values[-1], name, style["color"]))
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    set_batch_axis(axes, sizes, "speed-up over FP32 of the same runtime")
    label_ends(axes, sizes[-1], ends)
    save(figure, caption, path)


def _toggles(rows: pd.DataFrame) -> Iterator[tuple[str, Points]]:
    for (runtime, padding), group in by_padding(plain(rows)).groupby(["runtime", "padding"], sort=False):
        for precision in LOWER_PRECISIONS:
            points = []
            for size, cells in group.groupby("batch_size"):
                pair = precision_pair(cells, precision, "fp32")
                if pair:
                    points.append((int(size), compare(*pair)))
            if points:
                yield f"{runtime} {precision}{padding_text(padding)}", points


def _bars(points: Points) -> Any:
    """Return the distances `[2, points]` down and up to the limits of each ratio's interval."""
    down = [found.value - found.interval.low if found.interval else 0.0 for _, found in points]
    up = [found.interval.high - found.value if found.interval else 0.0 for _, found in points]
    return [down, up]
