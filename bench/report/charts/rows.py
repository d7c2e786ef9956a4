"""Charts with a line for each row, the fastest on top: they can be read however many rows there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.report.charts.chart import Chart, Spec
from bench.report.charts.measured import Measured, Record, written
from bench.report.charts.style import COLOURS, NAMES, ROW_STEP, axis, layer, limits, log_axis, tooltip

SHARES = np.arange(0.01, 1, 0.02)
"""A tick of a distribution stands for 2% of the runs, in the middle of which it lies."""
PRECISIONS = dict(zip(("fp32", "tf32", "fp16", "bf16", "int8"), COLOURS, strict=True))
PARTS = {"cuda": ("GPU works", "GPU waits for the host"), "cpu": ("GEMMs", "everything else")}
"""What a call's time goes into on each device."""
KEPT = ("variant", "label", "runtime", "precision", "batch_size", "p50_ms", "proof")
"""What a record is named, sorted and filtered by."""


def distribution(measured: Measured) -> Chart | None:
    """Return how single runs are distributed around each row's p50; None without single runs."""
    cells = [cell for cell in measured.cells if cell["variant"] in measured.runs]
    records = [cell | _spread(measured.runs[cell["variant"]], cell["batch_size"]) for cell in cells]
    if not records:
        return None
    ends = limits((value for each in records for value in (*each["ratio"], each["p999"])), 1.05)
    x = log_axis("ratio", "latency / p50 of the row", ends)
    layers = [
        {**layer("tick", {"x": x}, color=COLOURS[0], opacity=0.45, thickness=1), "transform": [{"flatten": ["ratio"]}]},
        layer("tick", {"x": {**x, "field": "p99"}}, color=COLOURS[1], thickness=2),
        layer("point", {"x": {**x, "field": "p999"}}, color=COLOURS[1], size=12, filled=True),
    ]
    note = "blue: 2% of a row's runs each; orange: p99, dot: p99.9"
    return _chart("Single runs", note, records, layers, measured, fields=("ratio", "p99", "p999"))


def _spread(runs: pd.DataFrame, batch_size: int) -> Record:
    """Return the quantiles of a row's runs at SHARES, p99 and p99.9, as multiples of their median."""
    latencies = runs.loc[runs["batch"] == batch_size, "latency_ms"].to_numpy(dtype=float)
    *ratio, p99, p999 = map(written, np.quantile(latencies, [*SHARES, 0.99, 0.999]) / np.median(latencies))
    return {"ratio": ratio, "p99": p99, "p999": p999}


def accuracy(measured: Measured) -> Chart | None:
    """Return each row's accuracy at one batch size; None where no accuracy is known."""
    records = [cell for cell in measured.cells if cell["accuracy_low"] is not None]
    if not records:
        return None
    x = axis("accuracy", "accuracy", scale={"zero": False}, axis={"format": "~%"})
    shown = {name: colour for name, colour in PRECISIONS.items() if name in {each["precision"] for each in records}}
    colour = _legend("precision", shown)
    bar = {"x": {**x, "field": "accuracy_low"}, "x2": {"field": "accuracy_high"}, "color": colour}
    layers = [layer("rule", bar), layer("point", {"x": x, "color": colour}, filled=True, size=50, opacity=1)]
    fields = ("accuracy", "accuracy_low", "accuracy_high")
    return _chart("Accuracy", "bars: Wilson's 95% interval", records, layers, measured, fields=fields)


def time_breakdown(measured: Measured) -> Chart | None:
    """Return what a call's time goes into at one batch size; None without a profiling pass."""
    work, rest = PARTS[measured.device]
    known = [(cell, share) for cell in measured.cells if (share := _worked(cell, measured.device)) is not None]
    records = [
        {**cell, "part": part, "share": written(value)}
        for cell, share in known
        for part, value in ((work, share), (rest, 1 - share))
    ]
    if not records:
        return None
    x = axis("share", "share of p50", scale={"domain": [0, 1]}, axis={"format": "%"})
    parts = {work: COLOURS[0], rest: COLOURS[4]}
    order = {"field": "part", "sort": "ascending" if work < rest else "descending"}
    layers = [layer("bar", {"x": x, "color": _legend("part", parts), "order": order})]
    note = "the fastest row on top"
    return _chart("What a call's time goes into", note, records, layers, measured, fields=("part", "share"))


def _worked(cell: Record, device: str) -> float | None:
    """Return the share of a call in which the GPU works, or of the CPU's work that is GEMMs."""
    share: float | None = cell["matrix_share"]
    busy_ms: float | None = cell["gpu_busy_ms"]
    if device == "cuda":
        share = None if busy_ms is None else busy_ms / cell["p50_ms"]
    return None if share is None else min(1.0, share)


def _legend(field: str, colours: dict[str, str]) -> Spec:
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": field, "type": "nominal", "title": None, "scale": scale, "legend": {"orient": "bottom"}}


def _chart(
    title: str, note: str, records: Sequence[Record], layers: list[Spec], measured: Measured, *, fields: Sequence[str]
) -> Chart:
    """Return a chart of one batch size: of the smallest and the largest as PNG, of the reader's on the page."""
    sizes = sorted({each["batch_size"] for each in records})
    order = {"field": "p50_ms", "op": "min"}
    rows = {"field": "label", "type": "nominal", "title": None, "sort": order, "axis": NAMES}
    kept = [{name: each[name] for name in (*KEPT, *fields)} for each in records]
    panel = {
        "height": {"step": ROW_STEP},
        "data": {"values": kept},
        "encoding": {"y": rows, "tooltip": tooltip("label", "batch_size", *fields[-3:], "proof")},
        "layer": layers,
    }
    ends, names = list(dict.fromkeys([sizes[0], sizes[-1]])), {each["label"] for each in records}
    description = f"{title}: a line for each row at one batch size, the fastest on top; {note}."
    return Chart(title, description, [panel], note, 2, names, ends, measured.chosen())
