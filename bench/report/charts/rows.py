"""Charts with a line for each row, the fastest on top: they can be read however many rows there are."""

from collections.abc import Sequence

import numpy as np

from bench.report.charts import vega
from bench.report.charts.measured import Measured, Record, written
from bench.report.charts.vega import Chart, Spec

SHARES = np.arange(0.01, 1, 0.02)
"""A tick of a distribution stands for 2% of the runs, in the middle of which it lies."""
PRECISIONS = dict(zip(("fp32", "tf32", "fp16", "bf16", "int8", "fp8"), (*vega.COLOURS, vega.SIXTH), strict=True))
PARTS = {"cuda": ("GPU works", "GPU waits for the host"), "cpu": ("GEMMs", "everything else")}
"""What a call's time goes into on each device."""
KEPT = ("variant", "label", "runtime", "precision", "batch_size", "p50_ms", "proof")
"""What a record is named, sorted and filtered by."""


def distribution(measured: Measured) -> Chart | None:
    """Return how single runs are distributed around each row's p50; None without single runs."""
    records = []
    for cell in (cell for cell in measured.cells if cell["variant"] in measured.runs):
        runs = measured.runs[cell["variant"]]
        latencies = runs.loc[runs["batch"] == cell["batch_size"], "latency_ms"].to_numpy(dtype=float)
        *ratio, p99, p999 = map(written, np.quantile(latencies, [*SHARES, 0.99, 0.999]) / np.median(latencies))
        records.append({**cell, "ratio": ratio, "p99": p99, "p999": p999})
    if not records:
        return None
    ends = vega.limits((value for each in records for value in (*each["ratio"], each["p999"])), 1.05)
    x = vega.log_axis("ratio", "latency / p50 of the row", ends)
    ticks = vega.layer("tick", {"x": x}, color=vega.COLOURS[0], opacity=0.45, thickness=1)
    layers = [
        {**ticks, "transform": [{"flatten": ["ratio"]}]},
        vega.layer("tick", {"x": {**x, "field": "p99"}}, color=vega.COLOURS[1], thickness=2),
        vega.layer("point", {"x": {**x, "field": "p999"}}, color=vega.COLOURS[1], size=12, filled=True),
    ]
    note = "blue: 2% of a row's runs each; orange: p99, dot: p99.9"
    return _chart("Single runs", note, records, layers, measured, fields=("ratio", "p99", "p999"))


def accuracy(measured: Measured) -> Chart | None:
    """Return each row's accuracy at one batch size; None where no accuracy is known."""
    records = [cell for cell in measured.cells if cell["accuracy_low"] is not None]
    if not records:
        return None
    x = vega.axis("accuracy", "accuracy", scale={"zero": False}, axis={"format": "~%"})
    there = {each["precision"] for each in records}
    colour = vega.legend("precision", {name: colour for name, colour in PRECISIONS.items() if name in there})
    fields = ("accuracy", "accuracy_low", "accuracy_high")
    layers = [
        vega.layer("rule", {**vega.interval("x", x, *fields[1:]), "color": colour}),
        vega.layer("point", {"x": x, "color": colour}, filled=True, size=50, opacity=1),
    ]
    return _chart("Accuracy", "bars: Wilson's 95% interval", records, layers, measured, fields=fields)


def time_breakdown(measured: Measured) -> Chart | None:
    """Return what a call's time goes into at one batch size; None without a profiling pass."""
    work, rest = PARTS[measured.panel.device]
    records = [
        {**cell, "part": part, "share": written(value)}
        for cell in measured.cells
        if (share := _worked(cell, measured.panel.device)) is not None
        for part, value in ((work, share), (rest, 1 - share))
    ]
    if not records:
        return None
    x = vega.axis("share", "share of p50", scale={"domain": [0, 1]}, axis={"format": "%"})
    parts = {work: vega.COLOURS[0], rest: vega.COLOURS[4]}
    order = {"field": "part", "sort": "ascending" if work < rest else "descending"}
    layers = [vega.layer("bar", {"x": x, "color": vega.legend("part", parts), "order": order})]
    note = "the fastest row on top"
    return _chart("What a call's time goes into", note, records, layers, measured, fields=("part", "share"))


def _worked(cell: Record, device: str) -> float | None:
    """Return the share of a call in which the GPU works, or of the CPU's work that is GEMMs."""
    part, whole = (cell["gpu_busy_ms"], cell["p50_ms"]) if device == "cuda" else (cell["matrix_share"], 1)
    return None if part is None else min(1.0, part / whole)


def _chart(
    title: str, note: str, records: Sequence[Record], layers: list[Spec], measured: Measured, *, fields: Sequence[str]
) -> Chart:
    """Return a chart of one batch size: of the smallest and the largest as PNG, of the reader's on the page."""
    sizes = sorted({each["batch_size"] for each in records})
    order = {"field": "p50_ms", "op": "min"}
    rows = {"field": "label", "type": "nominal", "title": None, "sort": order, "axis": vega.NAMES}
    kept = [{name: each[name] for name in (*KEPT, *fields)} for each in records]
    panel = {
        "height": {"step": vega.ROW_STEP},
        "data": {"values": kept},
        "encoding": {"y": rows, "tooltip": vega.tooltip("label", "batch_size", *fields[-3:], "proof")},
        "layer": layers,
    }
    ends = list(dict.fromkeys([sizes[0], sizes[-1]]))
    return Chart(title, note, [panel], ends, measured.chosen())


def lengths(measured: Measured) -> Chart | None:
    """Return how many sentences have how many tokens, with the mean and the sequence length; None without counts."""
    if measured.counts is None:
        return None
    tokens, sentences = measured.counts["tokens"], measured.counts["sentences"]
    limit, mean = measured.context.sequence_length, float((tokens * sentences).sum() / sentences.sum())
    x = vega.axis("tokens", "tokens of a sentence", scale={"domain": [0, limit + 2], "nice": False})
    y = vega.axis("sentences", "sentences", axis={"tickMinStep": 1, "format": "d"})
    bar = {"x": x, "y": y, "tooltip": vega.tooltip("tokens", "sentences")}
    look = {"color": vega.COLOURS[0], "width": {"expr": f"width / {limit + 2}"}}
    layers = [
        vega.layer("bar", bar, data=measured.counts.to_dict("records"), **look),
        *vega.upright_lines(x, {mean: f"mean {mean:.1f}"}, align="right"),
        *vega.upright_lines(x, {limit: "sequence length"}, align="left"),
    ]
    return Chart("Lengths of the sentences", "", [{"height": 180, "layer": layers}])
