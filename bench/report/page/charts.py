"""The page's charts as Vega-Lite specifications: data that can be tested without a browser.

Each takes the signals `budget_ms`, `runtimes`, `precisions` or `batch`, which the page sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report.page.data import Data
from bench.report.plots.style import COLOURS
from bench.statistics.rate_curve import steady_points
from bench.summary.budgets import Curves

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
"""The name of the language; nothing is fetched from there."""
FILTERED = "indexof(runtimes, datum.runtime) >= 0 && indexof(precisions, datum.precision) >= 0"
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
ROW = {"field": "row", "type": "nominal"}


def styles(rows: Sequence[str]) -> Data:
    """Return the colour and the line of each row: Okabe and Ito's colours, told apart with any colour vision.

    When they begin anew, the line is another.
    """
    places = range(len(rows))
    legend = {"orient": "bottom", "columns": {"expr": "width < 500 ? 1 : 3"}, "labelLimit": 320, "symbolType": "stroke"}
    colour = {"domain": list(rows), "range": [COLOURS[place % len(COLOURS)] for place in places]}
    dash = {"domain": list(rows), "range": [DASHES[place // len(COLOURS) % len(DASHES)] for place in places]}
    named = {**ROW, "title": None, "legend": legend}
    return {"color": {**named, "scale": colour}, "strokeDash": {**named, "scale": dash}}


def chart(title: str, description: str, **parts: Any) -> Data:
    """Return a specification as wide as its place."""
    size = {"width": "container", "height": 320, "autosize": {"type": "fit-x", "contains": "padding"}}
    return {"$schema": SCHEMA, "title": title, "description": description, **size, **parts}


def log(field: str, title: str) -> Data:
    """Return an axis of logarithms."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "nice": False, "padding": 12},
        "axis": {"format": "~s", "labelOverlap": "greedy"},
    }


def picture(spec: Data, width: int = 900) -> bytes:
    """Return a chart as a PNG."""
    import vl_convert

    fixed = {**spec, "width": width, "autosize": "pad", "background": "white"}
    return bytes(vl_convert.vegalite_to_png(fixed, scale=1.5))


def loads(curves: Curves) -> list[Data]:
    """Return every rate that was tried without overload, with its latencies, process by process."""
    return [
        {
            "row": row,
            "process": f"{row} {number + 1}",
            "rate": point.rate,
            "p50_ms": point.p50_ms,
            "p99_ms": point.p99_ms,
        }
        for row, processes in curves.items()
        for number, process in enumerate(processes)
        for point in steady_points(process)[0]
    ]


def served_chart(curves: Curves, answers: Data) -> Data:
    """Return p99 by offered load, a line a process, the budget and what each row holds within it with its interval."""
    held = [
        {"row": entry["row"], "budget_ms": step["budget_ms"], **ends(entry)}
        for step in answers["steps"]
        for entry in step["rows"]
    ]
    rate, p99 = log("rate", "offered load (requests/s)"), log("p99_ms", "p99 latency (ms)")
    style = styles(list(curves))
    budget = {"calculate": "budget_ms", "as": "p99_ms"}
    return chart(
        "p99 by offered load",
        "A line a process of each row: p99 latency against requests a second. The dashed line is the budget; a bar on "
        "it is the 95% interval of what a row holds within it.",
        params=[{"name": "budget_ms", "value": answers["configured_ms"]}],
        layer=[
            {
                "data": {"values": loads(curves)},
                "mark": {"type": "line", "point": True, "tooltip": True},
                "encoding": {"x": rate, "y": p99, **style, "detail": {"field": "process"}},
            },
            {
                "data": {"values": [{}]},
                "transform": [budget],
                "mark": {"type": "rule", "strokeDash": [4, 4]},
                "encoding": {"y": p99},
            },
            {
                "data": {"values": held},
                "transform": [{"filter": "datum.budget_ms == budget_ms"}, budget],
                "mark": {"type": "rule", "strokeWidth": 5, "tooltip": True},
                "encoding": {"x": {**rate, "field": "low"}, "x2": {"field": "high"}, "y": p99, "color": style["color"]},
            },
        ],
    )


def ends(entry: Data) -> Data:
    """Return the limits of a rate's interval, the rate itself where there is none."""
    return {name: entry["per_s"] if entry[name] is None else entry[name] for name in ("low", "high")}


def latency_chart(points: Sequence[Data]) -> Data:
    """Return p50 by batch size with 95% intervals, of the runtimes and precisions that are chosen."""
    rows = list(dict.fromkeys(point["row"] for point in points))
    x = {"field": "batch", "type": "ordinal", "title": "batch size", "axis": {"labelAngle": 0}}
    y, style = log("p50_ms", "p50 latency (ms)"), styles(rows)
    shown = ("row", "batch", "p50_ms", "low_ms", "high_ms", "verdict", "proof")
    tooltip = [{"field": name, "type": "nominal"} for name in shown]
    interval = {"x": x, "y": {**y, "field": "low_ms"}, "y2": {"field": "high_ms"}, "color": style["color"]}
    return chart(
        "Latency by batch size",
        "p50 latency of one call against the batch size, a line a row; bars are 95% intervals for another run.",
        params=_chosen(points),
        data={"values": list(points)},
        transform=[{"filter": FILTERED}],
        layer=[
            {
                "mark": {"type": "line", "point": True},
                "encoding": {"x": x, "y": y, **style, "tooltip": tooltip},
            },
            {"transform": [{"filter": "datum.low_ms != null"}], "mark": "rule", "encoding": interval},
        ],
    )


def causes_chart(points: Sequence[Data]) -> Data:
    """Return what a call waits for at one batch size: the GPU's work and the rest, where kernels were timed."""
    known = [point for point in points if point["gpu_ms"] is not None]
    return chart(
        "What a call waits for",
        "p50 latency of each row at one batch size, split into the time in which the GPU works and the rest.",
        params=[{"name": "batch", "value": min((point["batch"] for point in known), default=1)}],
        data={"values": known},
        height={"step": 18},
        transform=[{"filter": "datum.batch == batch"}, {"fold": ["gpu_ms", "host_ms"], "as": ["part", "ms"]}],
        mark={"type": "bar", "tooltip": True},
        encoding={
            "y": {**ROW, "title": None, "sort": {"field": "p50_ms"}, "axis": {"labelLimit": 260}},
            "x": {"field": "ms", "type": "quantitative", "title": "ms of a call", "stack": True},
            "color": {
                "field": "part",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["gpu_ms", "host_ms"], "range": [COLOURS[0], COLOURS[4]]},
                "legend": {"orient": "bottom", "labelExpr": "datum.label == 'gpu_ms' ? 'GPU works' : 'GPU waits'"},
            },
        },
    )


def padding_chart(points: Sequence[Data]) -> Data:
    """Return p50 against the tokens computed a sentence, at one batch size."""
    return _cloud(
        [point for point in points if point["tokens"] is not None],
        "Padding",
        "p50 latency of each row at one batch size against the tokens that it computes a sentence, padding included.",
        x={"field": "tokens", "type": "quantitative", "title": "tokens computed a sentence"},
        y=log("p50_ms", "p50 latency (ms)"),
        colour=_group("padding"),
    )


def accuracy_chart(points: Sequence[Data]) -> Data:
    """Return accuracy against throughput at one batch size."""
    scale = {"zero": False}
    accuracy = {"field": "accuracy", "type": "quantitative", "scale": scale, "axis": {"format": ".1%"}}
    return _cloud(
        [point for point in points if point["accuracy"] is not None],
        "Accuracy against speed",
        "Accuracy over the labelled sentences against samples a second at one batch size, a point a row.",
        x=log("samples_per_s", "samples/s"),
        y=accuracy,
        colour=_group("precision"),
    )


def _group(field: str) -> Data:
    return {"field": field, "type": "nominal", "scale": {"range": list(COLOURS)}, "legend": {"orient": "bottom"}}


def _cloud(points: Sequence[Data], title: str, description: str, *, x: Data, y: Data, colour: Data) -> Data:
    tooltip = [{"field": name, "type": "nominal"} for name in ("row", x["field"], y["field"], "proof")]
    return chart(
        title,
        description,
        params=[{"name": "batch", "value": min((point["batch"] for point in points), default=1)}, *_chosen(points)],
        data={"values": list(points)},
        transform=[{"filter": f"datum.batch == batch && {FILTERED}"}],
        mark={"type": "point", "filled": True, "size": 90},
        encoding={
            "x": x,
            "y": y,
            "color": colour,
            "shape": {"field": colour["field"], "type": "nominal"},
            "tooltip": tooltip,
        },
    )


def _chosen(points: Sequence[Data]) -> list[Data]:
    return [
        {"name": f"{name}s", "value": sorted({point[name] for point in points})} for name in ("runtime", "precision")
    ]
