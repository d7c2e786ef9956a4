"""The same rows on all recorded machines as a chart, a panel a device."""

from __future__ import annotations

from pathlib import Path

from bench.report.charts.chart import Chart, Spec
from bench.report.charts.measured import written
from bench.report.charts.style import NAMES, ROW_STEP, colours, layer, limits, log_axis
from bench.report.table import PANELS
from bench.runs.recorded_runs import RecordedRun

TITLE, CAPTION = "The same rows on every recorded machine", "p50 latency with 95% intervals"
NOTHING = "No run is recorded: python run.py record NAME keeps the last one"
FIGURES = ("p50_ms", "p50_low_ms", "p50_high_ms")
RUN_STEP = 6
"""Height of a run within a row, in CSS pixels."""


def write_hardware_plot(runs: list[RecordedRun], path: Path) -> None:
    """Draw p50 with intervals of every variant at the smallest batch size that all runs have; a colour a run."""
    shown = [device for device in PANELS if any(len(run.measured(device)) for run in runs)]
    panels = [_panel(runs, device) for device in shown] or [{"data": {"values": []}, "mark": "point"}]
    names = {str(name) for run in runs for name in run.table["variant"]}
    path.write_bytes(Chart(TITLE, TITLE, panels, columns=2, names=names).png(CAPTION if shown else NOTHING))


def _panel(runs: list[RecordedRun], device: str) -> Spec:
    size = min(int(value) for run in runs for value in run.measured(device)["batch_size"])
    records = [
        {"variant": row.variant, "run": run.name} | {name: written(getattr(row, name)) for name in FIGURES}
        for run in runs
        for row in run.measured(device).query(f"batch_size == {size}").itertuples()
    ]
    colour = colours(run.name for run in runs)
    run = {"field": "run", "type": "nominal", "title": None, "legend": {"orient": "bottom", "columns": 3}}
    rows = list(dict.fromkeys(each["variant"] for each in records))
    x = log_axis("p50_ms", "p50 latency (ms)", limits(each[name] for each in records for name in FIGURES))
    bar = {"x": {**x, "field": "p50_low_ms"}, "x2": {"field": "p50_high_ms"}}
    point = {"x": x, "shape": {**run, "scale": {"domain": list(colour)}}}
    return {
        "title": f"{PANELS[device]}, batch {size}",
        "height": {"step": max(ROW_STEP, RUN_STEP * len(runs)), "for": "position"},
        "data": {"values": records},
        "encoding": {
            "y": {"field": "variant", "type": "nominal", "title": None, "sort": rows, "axis": NAMES},
            "yOffset": {"field": "run", "type": "nominal", "sort": list(colour)},
            "color": {**run, "scale": {"domain": list(colour), "range": list(colour.values())}},
        },
        "layer": [layer("rule", bar, "isValid(datum.p50_low_ms)"), layer("point", point, filled=True, opacity=1)],
    }
