"""The same rows on all recorded machines as a chart, a panel a device."""

from __future__ import annotations

from pathlib import Path

from bench.report.charts import vega
from bench.report.charts.measured import written
from bench.report.charts.vega import Chart, Spec
from bench.report.texts import PANELS
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
    path.write_bytes(Chart(TITLE, CAPTION if shown else NOTHING, panels).png(""))


def _panel(runs: list[RecordedRun], device: str) -> Spec:
    size = min(int(value) for run in runs for value in run.measured(device)["batch_size"])
    records = [
        {"variant": row.variant, "run": run.name} | {name: written(getattr(row, name)) for name in FIGURES}
        for run in runs
        for row in run.measured(device).query(f"batch_size == {size}").itertuples()
    ]
    colour = vega.colours(run.name for run in runs)
    rows, names = list(dict.fromkeys(each["variant"] for each in records)), list(colour)
    x = vega.log_axis("p50_ms", "p50 latency (ms)", vega.limits(each[name] for each in records for name in FIGURES))
    shown = vega.legend("run", colour, columns=3)
    point = {"x": x, "shape": {**shown, "scale": {"domain": names}}}
    return {
        "title": f"{PANELS[device]}, batch {size}",
        "height": {"step": max(vega.ROW_STEP, RUN_STEP * len(runs)), "for": "position"},
        "data": {"values": records},
        "encoding": {
            "y": {"field": "variant", "type": "nominal", "title": None, "sort": rows, "axis": vega.NAMES},
            "yOffset": {"field": "run", "type": "nominal", "sort": names},
            "color": shown,
        },
        "layer": [
            vega.layer("rule", vega.interval("x", x, *FIGURES[1:])),
            vega.layer("point", point, filled=True, opacity=1),
        ],
    }
