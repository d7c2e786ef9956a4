"""The chart of requests under load: p99 by offered load, and the rate that each row sustains within the SLO."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bench.report.charts import vega
from bench.report.charts.measured import Measured, Record, loads, sustained
from bench.report.charts.vega import Chart, Spec

CURVES_HEIGHT, BAR_HEIGHT, APART = 260, 18, 16
"""Of the plot of curves, of a row's bar below it, and between the two: in CSS pixels."""
FARTHEST = 30
"""A row that sustains no rate is tried down to a hundredth of the first: drawn is what lies within this factor below
the lowest rate that a row sustains, so that the others are not pressed together."""
HIGHEST = 10
"""Drawn are latencies up to this multiple of the SLO."""


def served(measured: Measured) -> Chart | None:
    """Return p99 by offered load, a line a process, and below it the rate that each row sustains within the SLO, with
    its interval; None where no rate was tried.
    """
    found = measured.panel.served
    if found is None or not found.budgets:
        return None
    slo_ms = found.budget_ms
    held = [each for each in sustained(found) if each["variant"] in measured.curves]
    at_slo = [each for each in held if each["budget_ms"] == slo_ms]
    lowest = min((each["low"] for each in at_slo), default=0.0) / FARTHEST
    points = [each for each in loads(measured.curves) if each["rate"] >= lowest]
    if not points:
        return None
    colour = vega.colours(dict.fromkeys([*(each["variant"] for each in at_slo), *map(str, measured.curves)]))
    ends = vega.limits([*(each["rate"] for each in points), *(each[end] for each in at_slo for end in ("low", "high"))])
    x = vega.log_axis("rate", "offered load (requests/s)", ends)
    x["axis"]["grid"] = False  # Vega would draw it below the bars alone
    grid = vega.layer("rule", {"x": x}, data=[{"rate": tick} for tick in x["axis"]["values"]], opacity=0.12)
    low, high = vega.limits([slo_ms, *(each["p99_ms"] for each in points)])
    y = vega.log_axis("p99_ms", "p99 latency (ms)", (low, min(high, HIGHEST * slo_ms)), range=[CURVES_HEIGHT, 0])
    curves = {"layer": [grid, _curves(vega.coloured(points, colour), x, y), *_slo(y)]}
    panel = {
        "height": CURVES_HEIGHT + APART + BAR_HEIGHT * len(colour),
        "layer": [curves, _bars(vega.coloured(held, colour), x, colour)],
        "resolve": {"scale": {"y": "independent"}},
    }
    note = "bars: the rate sustained within the SLO, with its 95% interval"
    return Chart("p99 latency by offered load", note, [panel], params={"budget_ms": slo_ms})


def _curves(points: Sequence[Record], x: Spec, y: Spec) -> Spec:
    shown = {"detail": {"field": "process"}, "tooltip": vega.tooltip("process", "rate", "p50_ms", "p99_ms")}
    look = {"point": {"size": 22, "clip": True}, "strokeWidth": 1.4, "clip": True}
    return vega.layer("line", {"x": x, "y": y, "color": vega.COLOUR, **shown}, data=points, **look)


def _slo(y: Spec) -> list[Spec]:
    """Return the line of the SLO, where the axis holds it, and its name beside it."""
    low, high = y["scale"]["domain"]
    place = {"y": {"datum": {"expr": "budget_ms"}, "type": "quantitative"}}
    text = {"value": {"expr": "'SLO ' + budget_ms + ' ms'"}}
    is_inside = f"budget_ms >= {low} && budget_ms <= {high}"
    name = {**place, "x": {"value": "width"}, "text": text}
    return [
        vega.layer("rule", place, is_inside, data=[{}], **vega.DASHED),
        vega.layer("text", name, is_inside, data=[{}], **vega.BESIDE),
    ]


def _bars(held: Sequence[Record], x: Spec, colour: Mapping[str, str]) -> Spec:
    """Return a bar a row, each at a height of its own, so that none hides another."""
    top = CURVES_HEIGHT + APART
    scale = {"domain": list(colour), "range": [top, top + BAR_HEIGHT * len(colour)]}
    label = {"expr": f"{json.dumps(colour)}[datum.value]"}
    names = {**vega.NAMES, "orient": "right", "labelColor": label, "grid": False}
    place = {"field": "variant", "type": "nominal", "title": None, "scale": scale, "axis": names}
    shown = {"y": place, "color": vega.COLOUR, "tooltip": vega.tooltip("variant", "budget_ms", "rate", "low", "high")}
    return {
        "data": {"values": held},
        "transform": [{"filter": "datum.budget_ms == budget_ms"}],
        "encoding": shown,
        "layer": [
            vega.layer("rule", vega.interval("x", x, "low", "high"), strokeWidth=4, opacity=0.6),
            vega.layer("point", {"x": x}, filled=True, size=50, opacity=1),
        ],
    }
