"""Draw how long the sentences are, and where the sequence length that they are padded to lies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.report.plots.style import COLOURS, new_figure, save, tidy

HEIGHT_INCHES = 2.6


def write_lengths(counts: pd.DataFrame, sequence_length: int, caption: str, path: Path) -> None:
    """Write a bar a length; `counts`: tokens and the sentences that have so many."""
    from matplotlib.ticker import MaxNLocator

    figure, panels = new_figure(height_inches=HEIGHT_INCHES)
    axes = panels[0, 0]
    axes.bar(counts["tokens"], counts["sentences"], width=1.0, color=COLOURS[0])
    mean = (counts["tokens"] * counts["sentences"]).sum() / counts["sentences"].sum()
    for place, label, side in ((mean, f"mean {mean:.1f}", "left"), (sequence_length, "sequence length", "right")):
        axes.axvline(place, color="black", linewidth=1, linestyle=":")
        axes.annotate(
            label,
            (place, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4 if side == "left" else -4, -10),
            textcoords="offset points",
            ha=side,
            fontsize=8,
        )
    axes.set_xlim(0, sequence_length + 2)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("tokens of a sentence")
    axes.set_ylabel("sentences")
    tidy(axes)
    save(figure, caption, path)
