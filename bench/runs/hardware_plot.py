"""Draw the same rows on all recorded machines, a panel a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.report.plots.style import COLOURS, MARKERS, new_figure, save, set_log_ticks, tidy
from bench.report.table import PANELS
from bench.runs.recorded_runs import RecordedRun
from bench.summary.table_file import is_missing

ROW_INCHES = 0.3


def write_hardware_plot(runs: list[RecordedRun], path: Path) -> None:
    """Write p50 with intervals of every variant at the smallest batch size that all runs have; a colour a run."""
    panels = {device: [run for run in runs if len(run.measured(device))] for device in PANELS}
    shown = {device: there for device, there in panels.items() if there}
    if not shown:
        figure, _ = new_figure(height_inches=1.0)
        save(figure, "No run is recorded: python run.py record NAME keeps the last one", path)
        return
    styles = {
        run.name: {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "linestyle": "none"}
        for place, run in enumerate(runs)
    }
    names = {device: _variants(there, device) for device, there in shown.items()}
    rows = max(len(variants) for variants in names.values())
    figure, grid = new_figure(1, len(shown), 1.8 + ROW_INCHES * rows)
    for axes, (device, there) in zip(grid[0], shown.items(), strict=True):
        _panel(axes, there, device, names[device], styles)
    figure.legend(
        handles=[_handle(name, style) for name, style in styles.items()],
        loc="outside lower left",
        ncols=min(len(runs), 3),
        fontsize=8,
        frameon=False,
    )
    save(figure, "The same rows on every recorded machine, with 95% intervals", path)


def _variants(runs: list[RecordedRun], device: str) -> list[str]:
    return [str(name) for name in dict.fromkeys(name for run in runs for name in run.measured(device)["variant"])]


def _panel(
    axes: Any, runs: list[RecordedRun], device: str, variants: list[str], styles: dict[str, dict[str, str]]
) -> None:
    size = min(int(value) for run in runs for value in run.measured(device)["batch_size"])
    for place, run in enumerate(runs):
        rows = run.measured(device)
        for row in rows[rows["batch_size"] == size].itertuples():
            height = len(variants) - 1 - variants.index(row.variant) + 0.2 * (place - (len(runs) - 1) / 2)
            low = 0.0 if is_missing(row.p50_low_ms) else max(0.0, row.p50_ms - row.p50_low_ms)
            high = 0.0 if is_missing(row.p50_high_ms) else max(0.0, row.p50_high_ms - row.p50_ms)
            axes.errorbar(row.p50_ms, height, xerr=[[low], [high]], markersize=5, capsize=2, **styles[run.name])
    axes.set_yticks(range(len(variants)), variants[::-1], fontsize=8)
    axes.set_xscale("log")
    axes.set_title(f"{PANELS[device]}, batch {size}", fontsize=9)
    axes.set_xlabel("p50 latency (ms)", fontsize=8)
    set_log_ticks(axes.xaxis)
    axes.tick_params(axis="x", labelsize=7)
    tidy(axes)


def _handle(name: str, style: dict[str, str]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=name, **style)  # type: ignore[arg-type]
