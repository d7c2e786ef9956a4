"""Every chart of a report: made once, drawn into results/plots, and handed to the page."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from bench.core.files import replacing_folder
from bench.report.charts import lines, rows
from bench.report.charts.measured import Measured
from bench.report.charts.vega import Chart
from bench.report.shown import Context, Shown
from bench.summary.serving import Curves

_LINES = (lines.served, lines.latency_by_batch, lines.throughput_by_batch, lines.throughput_by_p95)
_ROWS = (lines.precision_speedup, rows.accuracy, rows.time_breakdown, rows.distribution, rows.lengths)
CHARTS: dict[str, Callable[[Measured], Chart | None]] = {make.__name__: make for make in (*_LINES, *_ROWS)}
"""Every chart by name, in the page's order: None where a run has nothing for it."""
SHARED = ("lengths",)
"""Charts that are the same for all devices: made once."""
PLOTTED = ("cell", "device", "batch_size", "p50_ms", "p50_low_ms", "p50_high_ms", "p95_ms", "mean_ms", "samples_per_s")
Charts = Mapping[str, Mapping[str, Chart]]
"""The charts of each device, by name."""
LIBRARIES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}
OTHERS = {"cuda": "openvino", "cpu": "tensorrt"}
"""The library that a device's rows never use."""


def make_charts(
    shown: Shown,
    table: pd.DataFrame,
    curves: Curves,
    *,
    runs: Mapping[str, pd.DataFrame] | None = None,
    counts: pd.DataFrame | None = None,
) -> Charts:
    """Return the charts of each device with measured rows.

    `table`: results/summary.csv; `curves`: the points of each served row; `runs`: the single runs of each variant:
    process, batch, run, latency_ms; `counts`: how many sentences have how many tokens.
    """
    found: dict[str, dict[str, Chart]] = {}
    for panel in shown.findings.panels:
        own = table[(table["device"] == panel.device) & (table["status"] == "measured")]
        if len(own):
            tried = {name: curves[name] for name in own["variant"].unique() if name in curves}
            measured = Measured(panel, own, shown.context, runs or {}, tried, counts)
            made = {name: make(measured) for name, make in CHARTS.items() if not (found and name in SHARED)}
            found[panel.device] = {name: chart for name, chart in made.items() if chart}
    return found


def write_charts(charts: Charts, table: pd.DataFrame, context: Context, folder: Path) -> None:
    """Draw every chart into `folder`, and write the figures behind them for `dvc plots show` and `dvc plots diff`."""
    with replacing_folder(folder) as target:
        measured = table[table["status"] == "measured"]
        measured[list(PLOTTED)].to_csv(target / "measured.csv", index=False, lineterminator="\n")
        for device, named in charts.items():
            for name, chart in named.items():
                text = context.model() if name in SHARED else caption(device, context)
                file = f"{name}.png" if name in SHARED else f"{device}_{name}.png"
                (target / file).write_bytes(chart.png(text))


def caption(device: str, context: Context) -> str:
    """Name the device, the libraries and the model that a picture shows."""
    versions = context.environment["versions"]
    names = [name for name in LIBRARIES if versions.get(name) and name != OTHERS[device]]
    libraries = ", ".join(f"{LIBRARIES[name]} {versions[name]}" for name in names)
    return f"{context.hardware(device)}\n{libraries}; {context.provenance['model']}"
